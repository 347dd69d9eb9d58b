"""Chooses where candidates and cells run, from the environment: it changes no result, so it is no parameter."""

import os
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from gee_core.config import BaseConfig
from gee_core.errors import InputError
from pipelines.engines.pools import Pool, Processes, Serial
from pipelines.runtime.settings import Settings, cpu_cores


def engine_name() -> str:
    """The engine that GEE_ENGINE names. GEE_DASK without GEE_ENGINE=dask is an InputError, and the other way round."""
    settings = Settings.read()
    if settings.dask and "engine" not in settings.model_fields_set:
        raise InputError("GEE_DASK has no effect without GEE_ENGINE=dask", "set that too, or unset GEE_DASK")
    if settings.engine == "dask" and not settings.dask:
        raise InputError("GEE_DASK: not set, and GEE_ENGINE=dask needs a scheduler", "start one (docs/CLUSTER.md), and name it")
    return settings.engine


def default_count(bases: Iterable[BaseConfig]) -> int | None:
    """Number of jobs at the same time: one per CPU core, or one per GPU. None stands for all workers of a scheduler."""
    name, bases = engine_name(), list(bases)
    if name != "processes":
        return 1 if name == "serial" else None
    if any(map(_is_gpu, {base.device for base in bases})):
        return max(1, len(gpus(bases)))
    return cpu_cores()


def gpus(bases: Iterable[BaseConfig]) -> list[str]:
    """The GPUs over which jobs are spread, as CUDA_VISIBLE_DEVICES names them: all that torch sees.

    None for jobs on the CPU, or where a `base.device` such as cuda:1 is one GPU for all of them.
    """
    devices = {base.device for base in bases}
    if not any(map(_is_gpu, devices)) or any(device.startswith("cuda:") for device in devices):
        return []
    import torch

    seen, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(number) for number in range(seen)] if named is None else named.split(",")[:seen]


def _is_gpu(device: str) -> bool:
    """Whether `base.device` means a GPU here. Torch takes a second to load, and is asked only where it may see a GPU."""
    if device == "cpu" or (device == "auto" and metadata.version("torch").endswith("+cpu")):
        return False
    from gee_core.compute import Compute

    return Compute.of(device, "fp32").device.type == "cuda"


def open_pool(
    count: int | None, threads: int, images: Iterable[Path], bases: Iterable[BaseConfig], isolated: bool = True
) -> Pool:
    """The pool that the environment names, for ``count`` jobs at once with ``threads`` torch threads each; a context manager.

    The jobs read the folders ``images`` of prepared images and have the sections ``bases``. ``isolated``: whether even one job
    at a time runs in a process of its own, whose death is survived.
    """
    name = engine_name()
    if name == "serial" or (name == "processes" and count == 1 and not isolated):
        return Serial(threads)
    if name == "processes":
        return Processes(count or 1, threads, gpus(bases))
    try:
        from pipelines.engines.dask import Dask, own_requirements
    except ModuleNotFoundError as error:
        install = 'pip install -e "./pipelines[dask]"'
        raise InputError(f"GEE_ENGINE = dask: the package {error.name} is missing", install) from None
    return Dask(count, threads, own_requirements(images, bases), str(Settings.read().dask))

"""Which engine runs candidates and cells. Chosen outside params.yaml, since it changes no result and must make none stale.

GEE_ENGINE: `serial`, `processes` (the default) or `dask`; GEE_DASK: a scheduler's address or the path of its scheduler file.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from gee_core.config import BaseConfig
from gee_core.errors import InputError
from gee_core.hardware import Compute
from pipelines.engines.engine import Engine
from pipelines.engines.process_pool import Processes
from pipelines.engines.serial import Serial
from pipelines.runtime.settings import Settings


def engine_name() -> str:
    """The engine that GEE_ENGINE names.

    Raises:
        InputError: there is no such engine, or GEE_DASK is set without it.
    """
    settings = Settings.read()
    if settings.dask and "engine" not in settings.model_fields_set:
        raise InputError(f"GEE_DASK = {settings.dask}: has no effect without GEE_ENGINE=dask: set that too, or unset GEE_DASK")
    return settings.engine


def default_count(bases: Iterable[BaseConfig]) -> int | None:
    """Jobs side by side: one per CPU core, one on a GPU, one in this process; None for all workers of a scheduler."""
    name = engine_name()
    if name == "serial":
        return 1
    if name == "dask" and Settings.read().dask:
        return None
    on_gpu = any(Compute.of(base.device).device.type == "cuda" for base in bases)
    return 1 if on_gpu else len(os.sched_getaffinity(0))


def choose_engine(
    count: int | None, threads: int, images: Iterable[Path], bases: Iterable[BaseConfig], isolated: bool = True
) -> Engine:
    """The engine of the environment, not started yet.

    Args:
        count: jobs side by side; see `default_count`.
        threads: of torch, for each.
        images: folders of prepared images that the jobs read.
        bases: the jobs' sections `base`.
        isolated: a single process of the engine `processes` is one of its own, which may die; else it is this one.

    Raises:
        InputError: there is no such engine, or its package is missing.
    """
    name = engine_name()
    if name == "serial" or (name == "processes" and count == 1 and not isolated):
        return Serial(threads)
    if name == "processes":
        return Processes(count, threads)
    from pipelines.engines.worker_check import own_requirements

    try:
        from pipelines.engines.dask import Dask
    except ModuleNotFoundError as error:
        if error.name not in ("dask", "distributed"):
            raise
        raise InputError('GEE_ENGINE = dask: the package distributed is missing: pip install "gee[dask]"') from None
    return Dask(count, threads, own_requirements(images, bases), Settings.read().dask)

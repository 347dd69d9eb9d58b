"""Checks that a worker on another machine would compute the same results as this process."""

import hashlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

import gee_core
from gee_core.config import BaseConfig
from gee_core.errors import InputError
from gee_core.hardware import Compute
from gee_core.settings import CoreSettings
from gee_core.storage.atomic_files import sha256

PACKAGES = Path(gee_core.__file__).parent, Path(__file__).parents[1]
MODULES = [(path.relative_to(folder.parent), sha256(path)) for folder in PACKAGES for path in sorted(folder.rglob("*.py"))]
CODE = hashlib.sha256(repr(MODULES).encode()).hexdigest()
"""Hash of the code when this process loaded it, so that a worker that was started before an edit is refused."""


@dataclass(frozen=True)
class WorkerRequirements:
    """What a worker must have in common with the process that submits the jobs. Can be pickled and hashed.

    ``images``: folders of prepared images, absolute, each with the SHA-256 of its meta.json; ``bases``: `base.device` and
    `base.precision` of the jobs; ``variables``: those of the environment on which the last bits of a result depend.
    """

    folder: Path
    images: tuple[tuple[Path, str], ...]
    bases: tuple[tuple[str, str], ...]
    code: str
    torch: str
    variables: tuple[tuple[str, str], ...]


def own_requirements(images: Iterable[Path], bases: Iterable[BaseConfig]) -> WorkerRequirements:
    """The requirements of this process, for jobs that read ``images`` and have these sections `base`."""
    folders = sorted({folder.absolute() for folder in images})
    return WorkerRequirements(
        Path.cwd(),
        tuple((folder, sha256(folder / "meta.json")) for folder in folders),
        tuple(sorted({(base.device, base.precision) for base in bases})),
        CODE,
        _torch_release(),
        tuple(CoreSettings.read().rounding().items()),
    )


def check_worker(required: WorkerRequirements) -> str:
    """Check this worker and go to the project folder; returns the devices and precisions that jobs would use here.

    Raises:
        InputError: something differs.
    """
    if required.code != CODE:
        raise InputError("has another version of gee_core or pipelines", "install the same one there, then start it again")
    if required.torch != _torch_release():
        raise InputError(f"has torch {_torch_release()}, not {required.torch}", "install the same one in its environment")
    own = CoreSettings.read().rounding()
    for name, value in required.variables:
        if own[name] != value:
            raise InputError(f"has {name} = {own[name]}, not {value}", "start it with the value that the command has")
    if not required.folder.is_dir():
        raise InputError(
            f"cannot see the project folder {required.folder}", "mount the shared folder there under the same path"
        )
    for folder, expected in required.images:
        meta = folder / "meta.json"
        if not meta.is_file():
            raise InputError(f"cannot see {folder}", "mount the shared folder there under the same path")
        if sha256(meta) != expected:
            raise InputError(f"sees other images in {folder}", "share the folder, or copy it there again")
    os.chdir(required.folder)
    found = [Compute.of(*base) for base in required.bases]
    return ", ".join(f"{compute.device.type} {str(compute.dtype).removeprefix('torch.')}" for compute in found)


def _torch_release() -> str:
    return f"{torch.__version__.partition('+')[0]} on Python {sys.version_info.major}.{sys.version_info.minor}"

"""safetensors files with one entry of JSON in their metadata, which has a checksum of itself and of all tensors."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from gee_core.errors import InputError, as_input_error
from gee_core.storage.atomic_files import write_atomically
from gee_core.storage.json_object import AnyModel, as_model, parse_json_object

DAMAGE = SafetensorError, OSError, ValueError, KeyError, RuntimeError
"""Errors in reading a damaged safetensors file. A header that claims more bytes than there is memory raises RuntimeError."""


def write_tensors(path: Path, key: str, about: dict[str, object], tensors: dict[str, Tensor], digits: int = 64) -> None:
    """Write ``tensors`` to ``path``, atomically, and ``about`` with the first ``digits`` of the checksum as the entry ``key``.

    It is the only entry, because safetensors writes several in any order.
    """
    entry = json.dumps(about | {"sha256": checksum(about, tensors)[:digits]}, separators=(",", ":"))
    write_atomically(path, to_bytes(tensors, {key: entry}))


def read_about(path: Path, key: str, model: type[AnyModel], version: int) -> AnyModel | None:
    """The entry ``key`` as a ``model``, None if there is none. Raises one of ``DAMAGE``, or InputError for another version."""
    with safe_open(path, "pt") as file:
        entry = (file.metadata() or {}).get(key)
    if entry is None:
        return None
    with as_input_error(f"{path}: damaged"):
        values = parse_json_object(entry)
        written = values.get("version")
        if isinstance(written, int) and written != version:
            problem = f"{path}: is of version {written} of its format, and this gee_core reads version {version}"
            raise InputError(problem, "update gee_core")
        return as_model(values, model)


def read_tensors(path: Path, about: dict[str, object], sha256: str) -> dict[str, Tensor]:
    """The tensors in ``path``, if they and ``about`` have the checksum that begins with ``sha256``, else InputError."""
    with as_input_error(f"{path}: damaged", DAMAGE), safe_open(path, "pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    if checksum(about, stored)[: len(sha256)] != sha256:
        raise InputError(f"{path}: damaged, its checksum is another")
    return stored


def checksum(about: dict[str, object], stored: dict[str, Tensor]) -> str:
    """Of ``about`` and all tensors, whatever their order in the file."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(stored.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

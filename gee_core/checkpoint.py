"""Networks and training states on disk: safetensors for numbers, JSON for the rest; nothing is ever unpickled."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from gee_core.config import NetworkConfig
from gee_core.data.prepared import Meta
from gee_core.errors import InputError
from gee_core.storage.atomic_files import sha256, write_atomically, write_json
from gee_core.storage.json_object import read_json_object


def save_tensors(path: Path, tensors: dict[str, Tensor], meta: dict) -> None:
    """Write ``tensors`` to ``path`` and ``meta``, with their checksum, to the JSON file beside it; both atomically."""
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_atomically(path, content)
    write_json(path.with_suffix(".json"), meta | {"sha256": hashlib.sha256(content).hexdigest()})


def verify_tensors(path: Path) -> dict:
    """The meta beside ``path``, both files read back and found to be what ``save_tensors`` wrote.

    Raises:
        InputError: one of the files is missing, damaged, or not of the other.
    """
    meta_path = path.with_suffix(".json")
    for file in (path, meta_path):
        if not file.is_file():
            raise InputError(f"{file}: not found; `dvc repro` makes it, `dvc pull` fetches it")
    try:
        meta = read_json_object(meta_path)
    except ValueError as error:
        raise InputError(f"{path}: damaged, as is {meta_path.name} ({error}); delete both, then `dvc repro`") from None
    if meta.pop("sha256", None) != sha256(path):
        raise InputError(f"{path}: damaged, its checksum is not the one in {meta_path.name}; delete both, then `dvc repro`")
    return meta


def load_tensors(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict]:
    """The tensors and meta that ``save_tensors`` wrote.

    Raises:
        InputError: one of the files is missing, damaged, or not of the other.
    """
    meta = verify_tensors(path)
    try:
        return load_file(path, device=str(device)), meta
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{path}: damaged ({_in_short(error)}); delete it and run `dvc repro`") from None


def save_network(path: Path, net: nn.Module, network: NetworkConfig, meta: Meta) -> None:
    """Write a network's state dict, with what is needed to build it again."""
    built_for = {"num_classes": meta.num_classes, "in_channels": meta.in_channels, "image_size": meta.image_size}
    save_tensors(path, net.state_dict(), {"network": network.model_dump()} | built_for)


def load_network(path: Path, net: nn.Module, network: NetworkConfig, meta: Meta) -> nn.Module:
    """Fill ``net``, freshly built for ``network`` and ``meta``, from ``path``, and return it.

    Raises:
        InputError: the file is missing, damaged, or holds another network.
    """
    tensors, saved = load_tensors(path)
    wanted = network.model_dump() | {
        "num_classes": meta.num_classes,
        "in_channels": meta.in_channels,
        "image_size": meta.image_size,
    }
    section = saved.get("network")
    found = (section if isinstance(section, dict) else {}) | {
        k: saved.get(k) for k in ("num_classes", "in_channels", "image_size")
    }
    differing = [f"{key} is {found.get(key)!r}, not {value!r}" for key, value in wanted.items() if found.get(key) != value]
    if differing:
        raise InputError(f"{path}: a checkpoint of another network ({'; '.join(differing)}); run `dvc repro train`")
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{path}: does not fit the network ({_in_short(error)}); run `dvc repro train`") from None
    lost = [name for name, tensor in net.state_dict().items() if not tensor.isfinite().all()]
    if lost:
        raise InputError(f"{path}: {lost[0]} holds values that are not finite; lower train.lr, then `dvc repro train`")
    return net


def _in_short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

"""An update: what training changed of the network in a file of genes, its base, in a file of few kilobytes.

Those of its `parts` that differ from the base's are stored in int8, with one float32 scale per vector or matrix: O, the
classifier, and batch norm. In place of its four vectors, a batch norm has the two that it multiplies by and adds in evaluation,
w/√(var + ε) and b - mean·w/√(var + ε).

All integers are in the tensor ``codes``, all scales in ``scales``. The metadata has one entry, ``gee.update``: JSON with
`version, base, parts, num_classes, card` and `sha256`, the checksum of the others and of both tensors. `base` is the checksum
in the header of the base. Of both checksums the first ``DIGITS`` digits are kept.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gee_core.config import Positive, StrictModel
from gee_core.errors import InputError, as_input_error
from gee_core.gene_file import LEFT_OUT, read_genes, read_header
from gee_core.genome.quantise import quantise
from gee_core.model.base import SpikingNetwork
from gee_core.model.wired import architecture_of, check_finite, describe_unchanged, empty_network, fill_network
from gee_core.storage.tensor_file import DAMAGE, read_about, read_tensors, write_tensors

Part = Literal["O", "norm", "head"]
"""What training may change of a base: O, batch norm, the classifier."""
VERSION, ENTRY, DIGITS = 1, "gee.update", 16


class UpdateHeader(StrictModel):
    """The entry of the metadata."""

    version: int
    base: str
    parts: list[Part]
    num_classes: Positive
    card: dict[str, object]
    """What is not as in the card of the base, such as the names of the classes."""
    sha256: str


def save_update(path: Path | str, net: SpikingNetwork, base: Path | str, card: Mapping[str, object] | None = None) -> None:
    """Write to ``path`` what ``net`` has other than the network in the file ``base`` of ``save_genes``: its update.

    ``load_genes(base, update=path)`` is ``net`` again, rounded to int8. The file is written atomically.

    Args:
        path: the file, by convention ``….update``.
        net: the network that training made of that in ``base``. O, batch norm and the classifier may differ, and the number of
            classes. It is not changed.
        base: the file of genes that training started from.
        card: values to keep in the file, as JSON, such as the names of new classes: what is other than in the card of ``base``.

    Raises:
        ValueError: another tensor of ``net`` differs, or it is not of the architecture of ``base``.
        DivergedError: a number is not finite.
        InputError: ``base`` is missing or damaged, or ``path`` cannot be written.

    Examples:
        >>> net = gee_core.build_network("cifarnet", num_classes=10, n_genes=8, width=0.125)
        >>> gee_core.save_genes("base.safetensors", net)
        >>> adapted = gee_core.load_genes("base.safetensors")
        >>> with torch.no_grad():
        ...     adapted.genome.O += 0.1
        >>> gee_core.save_update("kitchen.update", adapted, "base.safetensors")
        >>> gee_core.load_genes("base.safetensors", update="kitchen.update").genome.n_genes
        8
    """
    header = read_header(Path(base))
    if header is None:
        raise InputError(f"{base}: a checkpoint, not a file of genes", "save the network with gee_core.save_genes first")
    former, architecture = read_genes(Path(base), header), describe_unchanged(net)
    if architecture != architecture_of(former).model_copy(update={"num_classes": architecture.num_classes}):
        raise ValueError(f"the network is not of the architecture of {base}: train the one that gee_core.load_genes returns")
    before, now = former.state_dict(), check_finite(path, net.state_dict())
    changed = [name for name, x in now.items() if not (name.endswith(LEFT_OUT) or torch.equal(x.cpu(), before[name]))]
    part_of = parts_of(net)
    if others := [name for name in changed if name not in part_of]:
        raise ValueError(f"{others[0]} is not as in {base}, and an update holds O, batch norm and the classifier alone")
    if not changed:
        raise ValueError(f"the network is that in {base}: there is nothing to save")
    parts = sorted({part_of[name] for name in changed})
    values = _folded(net)
    rounded = [quantise(values[name].reshape(1, -1), 8, 0) for name in _names(net, parts)]
    codes, scales = (torch.cat([x.flatten().cpu() for x in found]) for found in zip(*rounded, strict=True))
    about = {"version": VERSION, "base": header.sha256[:DIGITS], "parts": parts, "num_classes": architecture.num_classes}
    write_tensors(Path(path), ENTRY, about | {"card": dict(card or {})}, {"codes": codes, "scales": scales}, DIGITS)


def with_update(path: Path, base: SpikingNetwork, sha256: str) -> SpikingNetwork:
    """The network that the update in ``path`` makes of ``base``, in whose file's header the checksum is ``sha256``."""
    header = read_update(path)
    if not sha256.startswith(header.base):
        raise InputError(f"{path}: an update of another file of genes", "name the file that it was made for")
    stored = read_tensors(path, header.model_dump(exclude={"sha256"}), header.sha256)
    net = empty_network(architecture_of(base).model_copy(update={"num_classes": header.num_classes}))
    state, like = _folded(base) if "norm" in header.parts else base.state_dict(), net.state_dict()
    names = _names(net, header.parts)
    with as_input_error(f"{path}: does not fit its base", (KeyError, ValueError, RuntimeError)):
        codes = stored["codes"].float().split([like[name].numel() for name in names])
        for name, numbers, scale in zip(names, codes, stored["scales"], strict=True):
            state[name] = (numbers * scale).view_as(like[name]).to(like[name].dtype)
    return fill_network(path, net, state)


def read_update(path: Path) -> UpdateHeader:
    """The header of an update. InputError where the file is missing, damaged or no update."""
    if not path.is_file():
        raise InputError(f"{path}: not found", "name a file that gee_core.save_update or export wrote")
    with as_input_error(f"{path}: damaged, or not an update", DAMAGE):
        header = read_about(path, ENTRY, UpdateHeader, VERSION)
    if header is None:
        raise InputError(f"{path}: not an update", "name a file that gee_core.save_update or export wrote")
    return header


def parts_of(net: nn.Module) -> dict[str, Part]:
    """By the name of each tensor in the state dict that belongs to a part, that part."""
    norms, found = _norms(net), dict[str, Part]()
    for name in net.state_dict():
        if name.rpartition(".")[0] in norms:
            found[name] = "norm"
        elif name == "genome.O" or name.startswith("head."):
            found[name] = "O" if name == "genome.O" else "head"
    return found


def _norms(net: nn.Module) -> dict[str, _BatchNorm]:
    return {name: module for name, module in net.named_modules() if isinstance(module, _BatchNorm) and module.affine}


def _names(net: SpikingNetwork, parts: Sequence[str]) -> list[str]:
    """The tensors of ``parts`` that a file holds, in its order."""
    part_of = parts_of(net)
    return [name for name, _ in net.named_parameters() if part_of.get(name) in parts]


def _folded(net: SpikingNetwork) -> dict[str, Tensor]:
    """The state dict of ``net``, in which every batch norm has mean 0 and variance 1, and does the same in evaluation."""
    state = {name: x.detach().cpu() for name, x in net.state_dict().items()}
    for name, norm in _norms(net).items():
        weight, bias, mean, var = (state[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
        scale = weight / (var + norm.eps).sqrt()
        state |= {f"{name}.weight": scale * (1 + norm.eps) ** 0.5, f"{name}.bias": bias - mean * scale}
        state |= {f"{name}.running_mean": torch.zeros_like(mean), f"{name}.running_var": torch.ones_like(var)}
    return state

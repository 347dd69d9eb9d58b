"""A network in one file of few bytes, ``genes.safetensors``: its genes in few bits, and what rebuilds the network from them.

``load`` rebuilds a network of ``build_network``. Of any other encoded module the file has the genes and what is not encoded.
``load_genes`` fills a fresh instance with them.

The matrices of a network (X_l, X_0, O, and the weights of layers that are not encoded) are stored in one of ``GENE_FORMATS``.
Integers have a float32 scale per gene or per output channel in the tensor ``NAME.scale``. int4 packs two numbers into a byte,
the first into its low half. Batch norms, biases and other vectors are float32 in ``fp32``, else bfloat16, which costs no more
accuracy than the rounding of the matrices does. Counters of batches are left out.

The metadata of the file has one entry, ``gee.genes``: JSON with `version, architecture, format, card` and `sha256`, the
checksum of the others and of all tensors.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from gee_core.config import GeneFormat, Positive, StrictModel
from gee_core.errors import InputError, as_input_error, in_short
from gee_core.genome.copying import check_values
from gee_core.genome.encoding import check_parametrizations, encoded_copy, genome_of
from gee_core.genome.quantise import BITS, dequantise, quantise, scaled_dim
from gee_core.model.base import Architecture, SpikingNetwork
from gee_core.model.wired import check_finite, check_numbers, describe_unchanged, fill_network, read_network
from gee_core.storage.json_object import as_model, parse_json_object
from gee_core.storage.tensor_file import DAMAGE, read_about, read_tensors, write_tensors

FLOATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
GENE_FORMATS = (*FLOATS, *BITS)
"""Formats of the matrices."""

VERSION = 1

GENES_ENTRY = "gee.genes"
"""The key of the entry in the metadata."""

SAME_CODE = "make the module by the code that made the saved one"

LEFT_OUT = "num_batches_tracked"
"""Batches that a batch norm has seen: of no use with a momentum, so a loaded network starts at 0."""


class Chain(StrictModel):
    """What is encoded in a module that ``build_network`` did not make."""

    n_genes: Positive
    chain: list[str]
    """The names of its convolutions, the stem's first."""


class GeneHeader(StrictModel):
    """The entry of the metadata."""

    version: int
    architecture: dict[str, object]
    """`Architecture`, or `Chain`, as JSON."""
    format: GeneFormat
    card: dict[str, object] | None
    """What the file's user wants it to say, for instance the names of the classes."""
    sha256: str


def save_genes(path: Path | str, net: nn.Module, format: str = "int8", card: Mapping[str, object] | None = None) -> None:
    """Write a network of ``build_network`` or any encoded module to the one file ``path``, by convention ``….safetensors``.

    ``load`` reads the former, encoded or plain, and ``load_genes`` fills a module with the latter. int8 takes a quarter of the
    bytes of float32, int4 an eighth, and changes the network's outputs accordingly. ``fp32`` changes none of a float32
    network. The file is written atomically.

    Args:
        path: the file.
        net: the network. It is not changed.
        format: of its matrices: ``fp32``, ``bf16``, ``int8`` or ``int4``.
        card: values to keep in the file, as JSON, such as the names of the classes: see ``read_card``. None keeps none.

    Raises:
        ValueError: ``net`` has no genes and was not made by ``build_network``, or was changed since, or another argument is
            out of range.
        DivergedError: a weight or gene is not finite.
        InputError: the file cannot be written.

    Examples:
        >>> net = gee_core.build_network("cifarnet", num_classes=10, n_genes=8, width=0.125)
        >>> gee_core.save_genes("genes.safetensors", net, "int8", {"classes": ["cat", "dog"]})
    """
    if format not in GENE_FORMATS:
        raise ValueError(f"format must be one of {', '.join(GENE_FORMATS)}, got {format!r}")
    about = {"version": VERSION, "architecture": _described(net).model_dump(), "format": format}
    try:
        about = parse_json_object(json.dumps(about | {"card": None if card is None else dict(card)}, allow_nan=False))
        as_model(about | {"sha256": ""}, GeneHeader)  # what could not be read again is not written
    except (TypeError, ValueError) as error:
        raise ValueError(f"card must be a dict of values that JSON knows ({in_short(error)})") from None
    stored = _pack_all(check_finite(path, net.state_dict()), format)
    write_tensors(Path(path), GENES_ENTRY, about, stored)


def stored_bytes(net: nn.Module) -> int:
    """Bytes of the numbers that a file of ``save_genes`` in int8 holds of ``net``, without its header."""
    return sum(part.nbytes for part in _pack_all(net.state_dict(), "int8").values())


def fill_module(path: Path, header: GeneHeader | None, net: nn.Module) -> nn.Module:
    """A copy of the plain ``net``, encoded and filled as the file ``path`` of ``save_genes`` with this ``header`` says."""
    if header is None or "chain" not in header.architecture:
        raise InputError(f"{path}: holds a network of build_network", "read it with gee_core.load")
    about = as_model(header.architecture, Chain)
    with as_input_error(f"{path}: does not fit this module", (AttributeError, ValueError, RuntimeError), SAME_CODE):
        convs = [cast(nn.Conv2d, net.get_submodule(name)) for name in about.chain]
        encoded, *_ = encoded_copy(net, about.n_genes, None, convs)
        encoded.load_state_dict(_state(path, header, encoded))
        check_numbers(path, encoded)
    return encoded


def read_genes(path: Path, header: GeneHeader) -> SpikingNetwork:
    """The network of ``build_network`` in the file ``path`` of ``save_genes`` with this ``header``, its numbers dequantised."""
    if "chain" in header.architecture:
        raise InputError(f"{path}: holds a module that build_network did not make", "gee_core.load_genes fills a fresh one")
    net = read_network(path, header.architecture)
    return fill_network(path, net, _state(path, header, net))


def _state(path: Path, header: GeneHeader, net: nn.Module) -> dict[str, Tensor]:
    """The tensors of the file, verified: of the shape and type of those of ``net``, and all others that it holds."""
    stored = read_tensors(path, header.model_dump(exclude={"sha256"}), header.sha256)
    wanted = net.state_dict()
    state = {name: tensor for name, tensor in stored.items() if name not in wanted and not name.endswith(".scale")}
    with as_input_error(f"{path}: does not fit the network", (KeyError, RuntimeError), SAME_CODE):
        held = {name: like for name, like in wanted.items() if name in stored or name.endswith(LEFT_OUT)}
        state |= {name: _unpack(name, like, stored, header.format) for name, like in held.items()}
    return state


def _described(net: nn.Module) -> Architecture | Chain:
    """What rebuilds ``net``, or says which of its convolutions are encoded."""
    genome = genome_of(net)
    if genome is None or isinstance(net, SpikingNetwork):
        return describe_unchanged(net)
    check_values(net)
    check_parametrizations(net)
    names = {module: name for name, module in net.named_modules()}
    return Chain(n_genes=genome.n_genes, chain=[names[conv] for conv in genome.chain()])


def read_card(path: Path | str) -> dict[str, object] | None:
    """The card in the file ``path`` of ``save_genes``, without its tensors, or None where it was saved without a card.

    Files of the pipeline have the keys of ``gee_core.export.model_card.ModelCard``. A loaded network does not hold the card.

    Args:
        path: the file.

    Returns:
        The card, or None.

    Raises:
        InputError: the file is missing, damaged, of another version or not of ``save_genes``.

    Examples:
        >>> gee_core.read_card("genes.safetensors")
        {'classes': ['cat', 'dog']}
    """
    header = read_header(Path(path))
    if header is None:
        raise InputError(f"{path}: not a file of gee_core.save_genes")
    return header.card


def read_header(path: Path) -> GeneHeader | None:
    """The header of a file of ``save_genes``, or None for a checkpoint and for a damaged file with a JSON file next to it."""
    if not os.path.isfile(path):  # False for a name that is too long too
        raise InputError(f"{path}: not found", "name a .safetensors file that gee_core.save or gee_core.save_genes wrote")
    try:
        return read_about(path, GENES_ENTRY, GeneHeader, VERSION)
    except InputError:
        raise
    except DAMAGE as error:
        if path.with_suffix(".json").is_file():
            return None
        raise InputError(f"{path}: damaged, or not a safetensors file ({in_short(error)})") from None


def _pack_all(state: dict[str, Tensor], format: str) -> dict[str, Tensor]:
    """The tensors that stand for those of ``state`` in the file."""
    stored: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not name.endswith(LEFT_OUT):
            stored |= _pack(name, tensor.detach().cpu().contiguous(), format)
    return stored


def _pack(name: str, tensor: Tensor, format: str) -> dict[str, Tensor]:
    """The tensors that stand for ``tensor`` in the file."""
    dim = scaled_dim(name, tensor)
    if dim is None or format in FLOATS:
        stored_as = FLOATS["fp32" if format == "fp32" else "bf16"] if tensor.is_floating_point() else tensor.dtype
        return {name: tensor.to(stored_as, copy=True)}
    codes, scale = quantise(tensor, BITS[format], dim)
    if format == "int4":
        pairs = nn.functional.pad(codes.flatten(), (0, codes.numel() % 2)).view(-1, 2)
        codes = ((pairs[:, 0] & 15) | (pairs[:, 1] << 4)).view(torch.uint8)
    return {name: codes, f"{name}.scale": scale}


def _unpack(name: str, like: Tensor, stored: dict[str, Tensor], format: str) -> Tensor:
    """The tensor of the shape and type of ``like`` that ``_pack`` packed."""
    if name.endswith(LEFT_OUT):
        return torch.zeros(like.shape, dtype=like.dtype)
    dim = scaled_dim(name, like)
    if dim is None or format in FLOATS:
        return stored[name].to(like.dtype, copy=True)
    codes = stored[name]
    if format == "int4":
        signed = codes.view(torch.int8)
        codes = torch.stack([signed << 4 >> 4, signed >> 4], 1).flatten()[: like.numel()].view(like.shape)
    return dequantise(codes, stored[f"{name}.scale"], dim).to(like.dtype)

"""What `train.init_from` names: a plain checkpoint, which is encoded, or a base: a file of genes, or one that comes with GEE.

Torch is loaded where the network is: check and the keys of cells ask for the files alone.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from gee_core.config import Params
from gee_core.errors import InputError, as_input_error, in_short
from gee_core.export.model_card import ModelCard
from gee_core.pretrained.files import list_pretrained, pretrained_file
from gee_core.storage.json_object import as_model
from pipelines.project.paths import check_in_inputs
from pipelines.runtime.input_errors import TRACKED

if TYPE_CHECKING:
    from gee_core.data.meta import Meta
    from gee_core.model.base import SpikingNetwork


def init_from_files(params: Params) -> list[Path]:
    """The files that a training run depends on: the base, or the checkpoint in `train.init_from` and its .json."""
    if params.train.init_from is None:
        return []
    path = _place(params.train.init_from)
    if params.train.init_from not in list_pretrained():
        check_in_inputs("train.init_from", path)
    files = [path] if _has_genes(path) else [path, path.with_suffix(".json")]
    if params.train.parts is not None and files[1:]:
        problem = f"train.parts = {params.train.parts}: {path} has no genes, of which an update could be a part"
        raise InputError(problem, "name a file of genes, such as models/export/genes.safetensors, or set parts to null")
    for file in files:
        if not file.is_file():
            remedy = (
                f"copy a file of genes there, or both files of a plain network's checkpoint ({TRACKED}); or name one that "
                "`gee pretrained` lists"
            )
            raise InputError(f"train.init_from = {path}: {file}: no such file", remedy)
    return files


def encoded_network(params: Params, meta: "Meta") -> "tuple[SpikingNetwork, dict[str, float]]":
    """The network that training starts from: the plain one in `train.init_from`, encoded, and each layer's relative error.

    A base has genes already, and no errors.
    """
    from pipelines.inputs.loading import compressed, load_trained

    assert params.train.init_from is not None and params.network.n_genes is not None
    path = _place(params.train.init_from)
    if _has_genes(path):
        return _of_base(params, meta, path), {}
    plain = params.model_copy(update={"network": params.network.model_copy(update={"n_genes": None})})
    try:
        net = load_trained(plain, meta, path)
    except InputError as error:
        raise InputError(
            f"train.init_from = {path}: {error.problem.removeprefix(f'{path}: ')}",
            "name a network.safetensors of this network trained with network.n_genes = null, or null",
        ) from None
    return compressed(net, params.network.n_genes)


def base_network(path: Path) -> "tuple[SpikingNetwork, ModelCard]":
    """The network in a file of genes, and its card."""
    from pipelines.inputs.loading import load_checkpoint

    net, card = load_checkpoint(path, register=True)
    with as_input_error(f"{path}: its card does not describe the images", remedy="take a file of stage export"):
        return net, as_model(card or {}, ModelCard)


def _place(name: str) -> Path:
    """The file that `train.init_from` names."""
    return pretrained_file(name) if name in list_pretrained() else Path(name)


def _of_base(params: Params, meta: "Meta", path: Path) -> "SpikingNetwork":
    """The network of the base in ``path``, for the images ``meta``: with a new classifier where the classes differ."""
    from gee_core.model.wired import wired_network
    from pipelines.inputs.loading import differences

    (base, card), name, parts = base_network(path), params.train.init_from, params.train.parts
    if card.in_channels != meta.in_channels:
        problem = f"train.init_from = {name}: takes {card.in_channels} channels, and the images have {meta.in_channels}"
        raise InputError(problem, "save them so (grey has 1, colour 3), or name another that `gee pretrained` lists")
    if differing := differences(base, params.network.structure().model_dump(exclude={"T"})):
        raise InputError(f"train.init_from = {name}: another network ({differing})", "set it so, or init_from to null")
    if parts is not None and card.image_size != meta.image_size:
        problem = f"train.init_from = {name}: it and its updates take {card.image_size} pixels a side, not {meta.image_size}"
        raise InputError(problem, f"set prepare.image_size to {card.image_size}, or train.parts to null")
    kept = card.class_names == meta.class_names
    if parts is not None and not kept and "head" not in parts:
        new, known = (in_short(", ".join(names)) for names in (meta.class_names, card.class_names))
        problem = f"{new} are not the classes of {name}, {known}"
        remedy = "name the folders so, or add head to parts, which trains a new classifier"
        raise InputError(f"train.parts = {parts}: {problem}", remedy)
    net = wired_network(params.network, meta, None, params.base.seed)
    state = {key: tensor for key, tensor in base.state_dict().items() if kept or not key.startswith("head.")}
    net.load_state_dict(net.state_dict() | state)
    return net


def _has_genes(path: Path) -> bool:
    """Whether ``path`` is a file of genes."""
    from gee_core.gene_file import read_header

    return path.is_file() and read_header(path) is not None

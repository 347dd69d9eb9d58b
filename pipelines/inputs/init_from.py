"""What `train.init_from` names: a plain checkpoint, which is encoded, or a network that comes with GEE.

Torch is loaded where the network is: check and the keys of cells ask for the files alone.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from gee_core.config import Params
from gee_core.errors import InputError
from gee_core.pretrained.files import list_pretrained, pretrained_card, pretrained_file
from pipelines.project.paths import check_in_inputs
from pipelines.runtime.input_errors import TRACKED

if TYPE_CHECKING:
    from gee_core.data.meta import Meta
    from gee_core.model.base import SpikingNetwork


def init_from_files(params: Params) -> list[Path]:
    """The checkpoint in `train.init_from` and its .json, or the file of a shipped network, that a training run depends on."""
    if params.train.init_from is None:
        return []
    if params.train.init_from in list_pretrained():
        return [pretrained_file(params.train.init_from)]
    path = Path(params.train.init_from)
    check_in_inputs("train.init_from", path)
    files = [path, path.with_suffix(".json")]
    for file in files:
        if not file.is_file():
            remedy = (
                f"copy the checkpoint of a plain network there, both files ({TRACKED}); or name one that `gee pretrained` lists"
            )
            raise InputError(f"train.init_from = {path}: {file}: no such file", remedy)
    return files


def encoded_network(params: Params, meta: "Meta") -> "tuple[SpikingNetwork, dict[str, float]]":
    """The network that training starts from: the plain one in `train.init_from`, encoded, and each layer's relative error.

    A network that comes with GEE has genes already, and no errors.
    """
    from pipelines.inputs.loading import compressed, load_trained

    assert params.train.init_from is not None and params.network.n_genes is not None
    if params.train.init_from in list_pretrained():
        return _shipped_network(params, meta, params.train.init_from), {}
    path = Path(params.train.init_from)
    plain = params.model_copy(update={"network": params.network.model_copy(update={"n_genes": None})})
    try:
        net = load_trained(plain, meta, path)
    except InputError as error:
        raise InputError(
            f"train.init_from = {path}: {error.problem.removeprefix(f'{path}: ')}",
            "name a network.safetensors of this network trained with network.n_genes = null, or null",
        ) from None
    return compressed(net, params.network.n_genes)


def _shipped_network(params: Params, meta: "Meta", name: str) -> "SpikingNetwork":
    """The network ``name``, which comes with GEE, for the images ``meta``: with a new classifier where the classes differ."""
    from gee_core.model.wired import wired_network
    from gee_core.pretrained.shipped import load_pretrained
    from pipelines.inputs.loading import differences

    shipped, card = load_pretrained(name), pretrained_card(name)
    if card.in_channels != meta.in_channels:
        problem = f"train.init_from = {name}: takes {card.in_channels} channels, and the images have {meta.in_channels}"
        raise InputError(problem, "save them so (grey has 1, colour 3), or name another that `gee pretrained` lists")
    if differing := differences(shipped, params.network.structure().model_dump(exclude={"T"})):
        raise InputError(f"train.init_from = {name}: another network ({differing})", "set it so, or init_from to null")
    net = wired_network(params.network, meta, None, params.base.seed)
    kept = card.class_names == meta.class_names
    state = {key: tensor for key, tensor in shipped.state_dict().items() if kept or not key.startswith("head.")}
    net.load_state_dict(net.state_dict() | state)
    return net

"""Encodes a checkpoint of plain weights with genes, for `train.init_from` and `gee encode`.

What loads torch is imported inside functions, because check needs the names of the files alone.
"""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.table import Table

from gee_core.config import Params
from gee_core.errors import InputError
from pipelines.inputs.remedies import TRACKED
from pipelines.project.watched_files import check_in_inputs

if TYPE_CHECKING:
    from gee_core.data.meta import Meta
    from gee_core.model.network import SpikingNetwork


def encoded_network(params: Params, meta: "Meta") -> "tuple[SpikingNetwork, dict[str, float]]":
    """The plain network in `train.init_from`, encoded with `network.n_genes`, and each layer's relative error."""
    from pipelines.inputs.trained_network import load_configured

    assert params.train.init_from is not None and params.network.n_genes is not None
    path = Path(params.train.init_from)
    plain = params.network.model_copy(update={"n_genes": None})
    try:
        net = load_configured(path, plain, meta)
    except InputError as error:
        raise InputError(
            f"train.init_from = {path}: {error.problem.removeprefix(f'{path}: ')}",
            "name a network.safetensors of this network trained with network.n_genes = null, or null",
        ) from None
    return _compress(net, params.network.n_genes)


def init_from_files(params: Params) -> list[Path]:
    """The checkpoint in `train.init_from` and its .json, if any, that a training run depends on."""
    if params.train.init_from is None:
        return []
    path = Path(params.train.init_from)
    check_in_inputs("train.init_from", path)
    files = [path, path.with_suffix(".json")]
    for file in files:
        if not file.is_file():
            remedy = f"copy the checkpoint of a plain network there, both files ({TRACKED}), or set null"
            raise InputError(f"train.init_from = {path}: {file}: no such file", remedy)
    return files


def encode_checkpoint(path: Path, n_genes: int, out: Path) -> tuple[dict[str, float], int, int]:
    """Encode the plain network in ``path`` and write it to ``out``; returns each layer's error, parameters before and after."""
    from gee_core.checkpoint import check_name, save
    from gee_core.genome.encoding import genome_of
    from gee_core.model.network import count_parameters
    from pipelines.inputs.trained_network import load_checkpoint

    check_name(out)
    for file in (out, out.with_suffix(".json")):
        if file.exists():
            raise InputError(f"{file}: exists, and would be overwritten", "name another file with --out")
    net, _ = load_checkpoint(path, register=True)
    if (genome := genome_of(net)) is not None:
        raise InputError(f"{path}: has {genome.n_genes} genes already", "name a network trained with network.n_genes = null")
    encoded, errors = _compress(net, n_genes)
    save(out, encoded)
    return errors, count_parameters(net), count_parameters(encoded)


def _compress(net: "SpikingNetwork", n_genes: int) -> "tuple[SpikingNetwork, dict[str, float]]":
    """The encoded copy of ``net``, and the relative error of each encoded layer by its name."""
    from gee_core.genome.compress import compress

    encoded, errors = compress(net, n_genes, convs=net.conv_chain())
    names = {module: name for name, module in net.named_modules()}
    return cast("SpikingNetwork", encoded), dict(zip((names[conv] for conv in net.conv_chain()[1:]), errors, strict=True))


def error_table(errors: dict[str, float]) -> Table:
    """The relative error ‖W - Ŵ‖ / ‖W‖ of every encoded layer, as a table for a terminal."""
    table = Table("layer", "relative error")
    for layer, error in errors.items():
        table.add_row(layer, f"{error:.2g}" if error < 0.01 else f"{error:.3f}")
    table.add_section()
    table.add_row("mean", f"{sum(errors.values()) / len(errors):.3f}")
    return table

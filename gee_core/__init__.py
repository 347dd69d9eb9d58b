"""GEE: genetically encoded deep spiking networks.

A chain of convolutions stores a few genes per neuron instead of one weight per connection:

    net = gee_core.encode(net, n_genes=64, example=x)   # a copy of any network; train it as before
    plain = gee_core.decode(net)                        # the same function with plain weights
    activity = gee_core.measure_energy(net, batches)    # its spikes, operations and theoretical energy

Every function returns a new object and leaves its arguments unchanged. The names below are the public interface; modules are
imported when one of their names is first used, so ``import gee_core`` itself is quick and loads no torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gee_core.checkpoint import load, load_genes, save
    from gee_core.config.evolve import SearchConfig
    from gee_core.config.genes import Shape
    from gee_core.errors import DivergedError, ExportError, InputError
    from gee_core.evaluation.energy import measure_energy, record
    from gee_core.evolution.candidate import Score
    from gee_core.evolution.loop import evolve
    from gee_core.evolution.search import Search
    from gee_core.evolution.search_vector import SearchSpace
    from gee_core.evolution.winner import winner
    from gee_core.export.to_nir import read_nir, to_nir, write_nir
    from gee_core.export.to_onnx import to_onnx
    from gee_core.gene_file import read_card, save_genes
    from gee_core.genome.chain import conv_chain, left_out
    from gee_core.genome.compress import compress
    from gee_core.genome.encoding import Genome, decode, encode
    from gee_core.genome.genotype import Genotype
    from gee_core.model.binary import to_binary
    from gee_core.model.network import build_network
    from gee_core.model.own import register_network
    from gee_core.pretrained.files import list_pretrained
    from gee_core.pretrained.shipped import classify, load_pretrained, transforms
    from gee_core.snn.lif import ILIF, LIF
    from gee_core.update_file import save_update
    from gee_core.zoo import NETWORKS

__version__ = "0.2.0"

__all__ = ["Genome", "Genotype", "Shape", "compress", "conv_chain", "decode", "encode", "left_out"]
__all__ += ["ILIF", "LIF", "NETWORKS", "build_network", "load", "read_card", "register_network", "save", "save_genes"]
__all__ += ["DivergedError", "ExportError", "InputError", "__version__"]
__all__ += ["Score", "Search", "SearchConfig", "SearchSpace", "evolve", "winner"]
__all__ += ["measure_energy", "read_nir", "record", "save_update", "to_nir", "to_onnx", "write_nir"]
__all__ += ["classify", "list_pretrained", "load_genes", "load_pretrained", "to_binary", "transforms"]

_MODULES = {
    "checkpoint": "load load_genes save",
    "config.evolve": "SearchConfig",
    "config.genes": "Shape",
    "errors": "DivergedError ExportError InputError",
    "evaluation.energy": "measure_energy record",
    "evolution.candidate": "Score",
    "evolution.loop": "evolve",
    "evolution.search": "Search",
    "evolution.search_vector": "SearchSpace",
    "evolution.winner": "winner",
    "export.to_nir": "read_nir to_nir write_nir",
    "export.to_onnx": "to_onnx",
    "gene_file": "read_card save_genes",
    "genome.chain": "conv_chain left_out",
    "genome.compress": "compress",
    "genome.encoding": "Genome decode encode",
    "genome.genotype": "Genotype",
    "model.binary": "to_binary",
    "model.network": "build_network",
    "model.own": "register_network",
    "pretrained.files": "list_pretrained",
    "pretrained.shipped": "classify load_pretrained transforms",
    "snn.lif": "ILIF LIF",
    "update_file": "save_update",
    "zoo": "NETWORKS",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}
"""The module of each public name."""

_EXTRAS = {"onnx": "onnx", "onnxscript": "onnx", "nir": "nir", "cma": "evolve"}
"""The extra of ``gee-snn`` that installs an optional package."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        if extra is None:
            raise
        raise ImportError(f"gee_core.{name} needs {error.name}: install GEE with its extra `{extra}`") from error
    globals()[name] = getattr(module, name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

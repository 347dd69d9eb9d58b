"""A small network for the tests of train: its genotype, plain and genetic, and the sections that configure it."""

from collections.abc import Iterator

from gee_core.config import Params
from gee_core.genome.genotype import Genotype
from pipelines.inputs.genotype_file import GenotypeFile

GENES = Genotype(0.3, (0.4,) * 8).as_dict()
SIGMAS = GenotypeFile(network="vgg16", width=1 / 16, n_genes=6, genes=GENES, seed=7)
SHAPED = SIGMAS.model_copy(update={"genes": GENES | {"omega_O": 1.0, "beta": 0.5}})
PLAIN = GenotypeFile(network="vgg16", width=1 / 16, n_genes=None, genes={}, seed=7)
RATED = ["stem.conv", *(f"body.{layer}.conv" for layer in (0, 2, 3, 5, 6, 8, 9))]
"""Layers of the small VGG-16 with neurons behind them."""


def settings(n_genes=6, **changes):
    """Sections for ``make_params``."""
    variant = "ste" if n_genes else "analytic"
    return {"network": {"n_genes": n_genes}, "evolve": {"variant": variant}, "train": changes}


def every_change(params: Params, *sections: str) -> Iterator[Params]:
    """``params`` with the value "other" for each setting of ``sections``, one after the other."""
    for name in sections:
        section = getattr(params, name)
        for key in type(section).model_fields:
            yield params.model_copy(update={name: section.model_copy(update={key: "other"})})

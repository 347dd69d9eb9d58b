"""models/evolve/genotype.json, its one reader and its one writer: the initialisation that evolve chose."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from gee_core.config import NetworkConfig, Params, StrictModel
from gee_core.config.genes import PLAIN
from gee_core.errors import InputError
from gee_core.genome.genotype import Genotype
from gee_core.storage.json_object import read_json_model
from pipelines.project.paths import GENOTYPE
from pipelines.runtime.input_errors import reading

Name = Annotated[str, Field(max_length=500)]  # so that messages may repeat it


class GenotypeFile(StrictModel, extra="ignore"):
    """The content of a genotype.json, which evolve writes."""

    network: Name
    width: float
    """`network.width` of params.yaml. A gene of that name has been searched."""
    n_genes: int | None
    """`network.n_genes` likewise. None for a plain network."""
    variant: Name | None = None
    searched: tuple[Name, ...] = ()
    """The genes that were searched."""
    genes: dict[Name, int | float]
    """All genes by name. Those of neurons, plasticity and structure that are not there are left to params.yaml."""
    seed: int
    """Of the wiring's draw."""
    generation: int | None = None
    """Of the candidate in candidates.csv. `evolve.n_generations` if it was scored again."""
    index: int | None = None
    fitness: float | None = None
    start: dict[str, str] | None = None
    """The path and the sha256 of the file that `evolve.start` named."""

    @model_validator(mode="after")
    def _is_a_genotype(self) -> "GenotypeFile":
        if self.n_genes is None and (encoded := self.genes.keys() - PLAIN):
            raise ValueError(f"a plain network has no gene {min(encoded)}")
        if self.n_genes is not None and not {"sigma_O", "sigma_0"} <= self.genes.keys():
            raise ValueError("its genes lack σ's")
        _ = self.genotype  # raises where a gene is unknown or out of range
        return self

    def misfit(self, network: NetworkConfig) -> str:
        """The difference to a genotype of ``network``, empty if there is none."""
        wanted = {"network": network.name, "width": network.width, "n_genes": network.n_genes}
        theirs = self.model_dump(include=set(wanted))
        return "" if theirs == wanted else f"{theirs}, not {wanted}"

    @property
    def genotype(self) -> Genotype | None:
        """The genotype, or None for a plain network that was not searched."""
        return Genotype.of(self.genes) if self.genes else None


class Controls(StrictModel):
    """models/evolve/controls.json: the networks that the winner of a search under a budget is compared with."""

    start: GenotypeFile
    """The start of the search, as it is configured."""
    narrowed: GenotypeFile
    """The start at the width at which it is within the budget."""
    narrowed_plain: GenotypeFile | None
    """The same with plain weights. None where the width is not solved."""


def load_genotype(params: Params, path: Path = GENOTYPE) -> GenotypeFile:
    """models/evolve/genotype.json. An InputError if it is missing, damaged, or another network's."""
    with reading(path, "run `dvc repro evolve`"):
        genotype = read_json_model(path, GenotypeFile)
    if misfit := genotype.misfit(params.network):
        raise InputError(f"{path}: a genotype of another network ({misfit})", "run `dvc repro evolve`")
    return genotype

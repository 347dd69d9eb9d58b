"""models/evolve/genotype.json, its one reader and its one writer: the initialisation that evolve chose."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, model_validator

from gee_core.config import NetworkConfig, Shape, StrictModel
from gee_core.genome.genotype import Genotype
from gee_core.storage.atomic_files import write_json
from gee_core.storage.json_object import read_json_model

Name = Annotated[str, Field(max_length=500)]  # so that messages may repeat it
Sigma = Annotated[float, Field(gt=0)]


class StartOfSearch(BaseModel):
    """The file that `evolve.start` named."""

    path: str
    sha256: str


class GenotypeFile(StrictModel, extra="ignore"):
    """The content of a genotype.json; evolve writes it."""

    network: Name
    width: float | None = None
    """`network.width`, for which the σ's are; None in files of versions before 0.2, which lack it."""
    n_genes: int | None
    """None for a plain network, which has no σ's."""
    variant: Name | None = None
    form: Name
    """`evolve.genotype` of the search."""
    sigma_O: Sigma | None
    sigma_X: tuple[Sigma, ...] | None
    shape: Shape = Field(default_factory=Shape)
    """Its genes of shape; neutral in files of versions before 0.2, which lack them."""
    seed: int
    """Of the wiring's draw."""
    generation: int | None = None
    """Of the candidate in candidates.csv; `evolve.n_generations` if it was scored again."""
    index: int | None = None
    fitness: float | None = None
    start: StartOfSearch | None = None

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "GenotypeFile":
        if self.n_genes is None and (self.sigma_O, self.sigma_X) != (None, None):
            raise ValueError("a plain network has no σ's")
        if self.n_genes is not None and (self.sigma_O is None or not self.sigma_X):
            raise ValueError("its σ's must be positive numbers")
        return self

    @classmethod
    def read(cls, path: Path) -> "GenotypeFile":
        """The content of ``path``.

        Raises:
            OSError: it cannot be read.
            ValueError: it is damaged; the message is one line.
        """
        return read_json_model(path, cls)

    def write(self, path: Path) -> None:
        """Write it to ``path``, atomically."""
        write_json(path, self.model_dump())

    def misfit(self, network: NetworkConfig, form: str | None = None) -> str:
        """The difference to a genotype of ``network``, and of the ``form`` if one is given; empty if there is none."""
        wanted = {"network": network.name, "width": network.width, "n_genes": network.n_genes}
        wanted |= {} if form is None else {"form": form}
        found = self.model_dump(include=set(wanted))
        known = found if self.width is not None else found | {"width": network.width}
        return "" if known == wanted else f"{found}, not {wanted}"

    @property
    def genotype(self) -> Genotype | None:
        """The wiring; None for a plain network."""
        return None if self.sigma_O is None or self.sigma_X is None else Genotype(self.sigma_O, self.sigma_X, self.shape)

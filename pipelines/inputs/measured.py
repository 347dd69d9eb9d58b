"""What the stages measured: the content of their metrics.json, and its readers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from gee_core.config import StrictModel
from gee_core.storage.json_object import AnyModel, read_json_model
from pipelines.project.paths import REPORTS
from pipelines.runtime.input_errors import reading


@dataclass(frozen=True)
class Measure:
    """What a number is."""

    label: str
    unit: Literal["fraction", "nats", "mJ", "spikes", "numbers", "bytes", "operations"]


class Evaluation(StrictModel):
    """The content of reports/evaluate/metrics.json. Energies, spikes and operations are per image."""

    test_accuracy: Annotated[float, Measure("test accuracy", "fraction")]
    test_loss: Annotated[float, Measure("test loss", "nats")]
    parameters: Annotated[int, Measure("parameters", "numbers")]
    plain_parameters: Annotated[int, Measure("parameters of the plain network", "numbers")]
    energy_mj: Annotated[float, Measure("energy", "mJ")]
    energy_with_decoding_mj: Annotated[float, Measure("energy with building W", "mJ")]
    energy_of_sums_mj: Annotated[float, Measure("energy of residual sums", "mJ")]
    spikes_per_image: Annotated[float, Measure("spikes per image", "spikes")]
    firing_rate: Annotated[float, Measure("firing rate", "fraction")]
    footprint: Annotated[int, Measure("footprint with genes", "bytes")]
    footprint_decoded: Annotated[int, Measure("footprint with W built", "bytes")]
    connection_sparsity: Annotated[float, Measure("connection sparsity", "fraction")]
    activation_sparsity: Annotated[float, Measure("activation sparsity", "fraction")]
    effective_macs: Annotated[float, Measure("effective MACs", "operations")]
    effective_acs: Annotated[float, Measure("effective ACs", "operations")]
    dense_synops: Annotated[float, Measure("dense synaptic operations", "operations")]


MEASURES: dict[str, Measure] = {
    name: next(about for about in field.metadata if isinstance(about, Measure))
    for name, field in Evaluation.model_fields.items()
}
"""By name, in the order of the file."""


class Searched(BaseModel):
    """Of evolve, as far as the report shows it. Only the first number exists for a plain network."""

    model_config = ConfigDict(frozen=True, strict=True)

    n_candidates: int
    best_fitness: float | None = None
    best_proxy_accuracy: float | None = None
    best_L_ce: float | None = None
    image_passes: int | None = None
    start_fitness: float | None = None
    limit_energy_uj: float | None = None
    """The limits of the budget, those that are relative in numbers."""
    limit_parameters: float | None = None
    limit_bytes: float | None = None
    limit_steps: float | None = None
    random_fitness: float | None = None
    fresh_draws: int = 0
    """Of how many draws the fitness is the mean. 0 where nothing was scored again."""

    @property
    def scored_on(self) -> str:
        """What the fitness of the winner and of the start was measured on."""
        n = self.fresh_draws
        return f"mean of {n} fresh draw{'s' * (n > 1)}" if n else "on the draw of the search"

    def fitness_in_words(self) -> str:
        """The fitness of winner, start and the best of the first, random candidates."""
        fitness = {"winner": self.best_fitness, "start": self.start_fitness, "best random candidate": self.random_fitness}
        texts = [f"{name} {F:.4g}" for name, F in fitness.items() if F is not None]
        return f"fitness ({self.scored_on}, lower is better): {', '.join(texts)}"


class PlainNetwork(BaseModel):
    """Of plain: the configured network with plain weights. Under a budget also the start and what was narrowed."""

    model_config = ConfigDict(frozen=True, strict=True)

    plain_test_accuracy: float | None = None
    plain_energy_mj: float | None = None
    configured_plain_parameters: int | None = None
    start_test_accuracy: float | None = None
    start_energy_mj: float | None = None
    start_parameters: int | None = None
    narrowed_test_accuracy: float | None = None
    """Of the start at the width at which it is within the budget."""
    narrowed_energy_mj: float | None = None
    narrowed_parameters: int | None = None
    narrowed_plain_test_accuracy: float | None = None
    narrowed_plain_energy_mj: float | None = None
    narrowed_plain_parameters: int | None = None


class Robustness(StrictModel):
    """Of robustness: mean accuracies, and by domain why a defect of hardware was left out."""

    noise_accuracy: float
    """At the paper's strength of noise, 0.5."""
    clean_accuracy: float
    hardware_left_out: dict[str, str] = Field(default_factory=dict)


class Exported(StrictModel):
    """Of export. What does not exist is None, and not in the file."""

    max_abs_difference: float | None = None
    """Between the logits of torch and of ONNX Runtime."""
    agreement: float | None = None
    """Fraction of equal predictions."""
    onnx_bytes: int | None = None
    problem: str | None = None
    """Why there is no ONNX file."""
    genes_bytes: int | None = None
    genes_accuracy: float | None = None
    genes_agreement: float | None = None
    fp32_accuracy: float | None = None
    genes_onnx_bytes: int | None = None
    genes_onnx_agreement: float | None = None
    nir_agreement: float | None = None
    nir_spike_agreement: float | None = None
    nir_bytes: int | None = None
    nir_problem: str | None = None
    """Why there is no NIR graph."""
    update_bytes: int | None = None
    update_accuracy: float | None = None
    """Of the update, as its file has it, on the test images."""
    base_accuracy: float | None = None
    """Of its base there. None where it knows other classes."""
    update_holdout_accuracy: float | None = None
    """On the hold-out, if that was not trained on."""
    former_holdout_accuracy: float | None = None
    """Of the update in use there, if there is one."""

    @property
    def has_better_update(self) -> bool:
        """Whether the update is to take the place of the one in use."""
        return self.update_holdout_accuracy is not None and self.update_holdout_accuracy > (self.former_holdout_accuracy or 0.0)


class Answer(StrictModel):
    """On a test image: its picture (PNG in base64), its class, the network's answer and the probability of that."""

    picture: str
    actual: str
    predicted: str
    probability: float


class Shown(StrictModel):
    """Of evaluate, for the report: answers, the last image's spikes, genes as maps, and the machine that measured."""

    answers: list[Answer]
    frames: str | None = None
    """The frames of the last of these, if it is a recording, as base64 of a PNG."""
    spikes: dict[str, list[list[int]]]
    """By the layer before the neurons: some neurons, at every step 1 for a spike, or the integer that it fires."""
    maps: dict[str, list[list[float]]]
    """By name: O, an X_l and the W_l of it at the kernel's middle, at most 64 rows and columns each."""
    machine: str


class Measured(NamedTuple):
    """What the stages of a run measured."""

    evolve: Searched
    plain: PlainNetwork
    evaluate: Evaluation
    robustness: Robustness
    export: Exported
    shown: Shown


def read_measured(reports: Path) -> Measured:
    """What the stages of a run measured, from their files under ``reports``. Raises ``InputError``."""
    return Measured(
        evolve=read_metrics("evolve", Searched, reports),
        plain=read_metrics("plain", PlainNetwork, reports),
        evaluate=read_metrics("evaluate", Evaluation, reports),
        robustness=read_metrics("robustness", Robustness, reports),
        export=read_metrics("export", Exported, reports),
        shown=read_metrics("evaluate", Shown, reports, "shown.json"),
    )


def read_metrics(stage: str, model: type[AnyModel], reports: Path = REPORTS, name: str = "metrics.json") -> AnyModel:
    """What a stage measured. Raises ``InputError``."""
    with reading(path := reports / stage / name, f"run `dvc repro -f {stage}`"):
        return read_json_model(path, model)

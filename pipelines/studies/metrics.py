"""The metrics of a study's tables: their column headers and number formats."""

from dataclasses import dataclass

from gee_core.errors import did_you_mean
from pipelines.inputs.measured import MEASURES, Measure


@dataclass(frozen=True)
class Metric:
    """How a number is shown."""

    header: str
    """Its column's name, with the unit."""
    scale: float = 1.0
    """Factor on the value before it is written: 100 for percent."""
    decimals: int | None = 2
    """Digits after the point. None stands for four significant digits."""
    stage: str | None = None
    """The stage that measures it. None stands for evolve and train."""

    def format(self, mean: float, sd: float = float("nan")) -> str:
        """``mean ± sd``. The mean alone if the spread is only rounding, and nothing if the mean is NaN."""
        if mean != mean:
            return ""
        shown = self._number(mean)
        return shown if not sd > 1e-12 * abs(mean) else f"{shown} ± {self._number(sd)}"

    def _number(self, value: float) -> str:
        value *= self.scale
        return f"{value:.4g}" if self.decimals is None else f"{value:,.{self.decimals}f}"


def _of_evaluate(measure: Measure) -> Metric:
    match measure.unit:
        case "fraction":
            return Metric(f"{measure.label} (%)", 100, stage="evaluate")
        case "mJ":
            return Metric(f"{measure.label} (mJ)", decimals=None, stage="evaluate")
    return Metric(measure.label, decimals=3 if measure.unit == "nats" else 0, stage="evaluate")


METRICS: dict[str, Metric] = {name: _of_evaluate(measure) for name, measure in MEASURES.items()} | {
    "train_accuracy": Metric("training accuracy (%)", 100),
    "train_loss": Metric("training loss", decimals=3),
    "val_accuracy": Metric("hold-out accuracy (%)", 100),
    "n_genes": Metric("g", decimals=0),
    "width": Metric("width", decimals=None),
    "parameters": Metric("parameters", decimals=0),
    "parameter_ratio": Metric("of the plain network (%)", 100, 1),
    "noise_accuracy": Metric("accuracy at r = 0.5 (%)", 100, stage="robustness"),
    "clean_accuracy": Metric("accuracy without noise (%)", 100, stage="robustness"),
    "noise_drop": Metric("loss by noise (points)", 100, stage="robustness"),
    "genes_bytes": Metric("file (kB)", 1e-3, 1, stage="export"),
    "genes_accuracy": Metric("accuracy in its format (%)", 100, stage="export"),
    "genes_drop": Metric("loss by the format (points)", 100, stage="export"),
    "fp32_accuracy": Metric("accuracy in fp32 (%)", 100, stage="export"),
    "genes_agreement": Metric("predictions as in fp32 (%)", 100, stage="export"),
    "proxy_accuracy": Metric("proxy accuracy (%)", 100),
    "best_fitness": Metric("best fitness", decimals=3),
    "start_fitness": Metric("fitness of the start, on fresh draws", decimals=3),
    "random_fitness": Metric("fitness of the best of the first generation, on fresh draws", decimals=3),
    "n_candidates": Metric("candidates", decimals=0),
    "n_rescored": Metric("scored again", decimals=0),
    "n_failed": Metric("failed candidates", decimals=0),
    "evolve_passes": Metric("image passes of evolve", decimals=0),
    "evolve_seconds": Metric("seconds of evolve", decimals=1),
    "train_passes": Metric("image passes of train", decimals=0),
    "train_seconds": Metric("seconds of train", decimals=1),
    "L_ce": Metric("L_ce", decimals=4),
    "R_T": Metric("R_T", decimals=4),
    "R_S": Metric("R_S", decimals=4),
}
"""By key. `parameters` are counted on the built network. `parameter_ratio` compares with the plain network at the width of the
genetic network. Keys that begin with `genes_` measure the network in the format `export.genes`. `evolve_seconds` sums the times
of the candidates, however many ran in parallel."""


def check_metric(name: str) -> str:
    """``name``, or ``ValueError`` if there is no such metric."""
    if name not in METRICS:
        remedy = did_you_mean(name, METRICS) or f"choose from {', '.join(METRICS)}"
        raise ValueError(f"unknown metric {name!r}: {remedy}")
    return name

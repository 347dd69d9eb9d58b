"""Summarises a run in some thirty values, for `gee summary`, `dvc metrics diff` and the head of the report."""

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gee_core.config import Params
from gee_core.errors import printable
from gee_core.evaluation.activity import energy_text
from gee_core.storage.json_object import read_json_model
from pipelines.inputs.measured import MEASURES, Measured, Searched
from pipelines.tracking.tags import NOTE

if TYPE_CHECKING:
    from pipelines.runtime.run_folder import RunFolder

RESULT = "gee.result"
"""Tag of a pipeline's run in MLflow: the `result_id` of its summary.json."""


class Summary(BaseModel):
    """The content of reports/summary.json: settings and numbers of a run, without times, so that equal runs have equal files.

    Accuracies, rates and the ratio are fractions, energies are in mJ per image. A value that does not exist, such as the
    fitness of a plain network, is None.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    dataset: str
    network: str
    width: float
    n_genes: int | None
    variant: str
    seed: int
    test_accuracy: float
    test_images: int | None = None
    plain_test_accuracy: float | None = None
    plain_energy_mj: float | None = None
    parameters: int
    plain_parameters: int
    parameter_ratio: float
    energy_mj: float
    energy_with_decoding_mj: float
    energy_of_sums_mj: float
    spikes_per_image: float
    firing_rate: float
    noise_accuracy: float
    noise_domain: str
    n_candidates: int
    best_fitness: float | None
    start_fitness: float | None = None
    gain_error: float | None = None
    cost: str | None = None
    """Name of the second objective."""
    cost_ratio: float | None = None
    random_fitness: float | None = None
    fresh_draws: int = 0
    image_passes: int | None = None
    onnx_bytes: int | None
    onnx_agreement: float | None
    genes_format: str | None = None
    genes_bytes: int | None = None
    genes_accuracy: float | None = None
    onnx_problem: str | None = None
    nir_bytes: int | None = None
    nir_agreement: float | None = None
    nir_spike_agreement: float | None = None
    nir_problem: str | None = None
    machine: str | None = None
    commit: str | None

    def values(self) -> dict[str, object]:
        """As the file holds them: a reason why there is no ONNX or NIR only where there is one."""
        return {key: value for key, value in self.model_dump().items() if value is not None or not key.endswith("_problem")}

    def text(self) -> str:
        """The file."""
        return json.dumps(self.values(), indent=2, allow_nan=False) + "\n"

    def numbers(self) -> dict[str, float]:
        """The results among the values, without settings, and without energies of 0, such as that of no residual sums."""
        values = self.model_dump(exclude={"width", "n_genes", "seed", "test_images"})
        return {
            key: value for key, value in values.items() if isinstance(value, int | float) and (value or "energy" not in key)
        }


def read_summary(path: Path) -> Summary:
    """The content of a summary.json. Raises ``OSError`` or ``ValueError``."""
    return read_json_model(path, Summary)


def result_id(summary: Summary) -> str:
    """Leads from a report to its run in MLflow, from the bytes of summary.json: a page with the run's own id would vary."""
    return hashlib.sha256(summary.text().encode()).hexdigest()[:12]


def track_result(summary: Summary, run: "RunFolder") -> None:
    """Note the result of an execution in its run."""
    run.note(metrics=summary.numbers(), tags={RESULT: result_id(summary), NOTE: summary_markdown(summary)})


def build_summary(params: Params, measured: Measured, test_images: int, commit: str | None) -> Summary:
    """The summary of the measurements of a run, rounded."""
    shown = {
        name: _rounded(value, getattr(MEASURES.get(name.removeprefix("plain_")), "unit", "fraction") == "fraction")
        for part in measured
        for name, value in part
        if name in Summary.model_fields
    }
    evaluate, export = measured.evaluate, measured.export
    return Summary.model_validate(
        {
            **shown,
            "dataset": params.prepare.data_name,
            "network": params.network.name,
            "width": params.network.width,
            "n_genes": params.network.n_genes,
            "variant": params.evolve.variant,
            "seed": params.base.seed,
            "test_images": test_images,
            "parameter_ratio": _rounded(evaluate.parameters / max(evaluate.plain_parameters, 1)),
            "cost": params.evolve.objectives[1] if params.evolve.several else None,
            "noise_domain": params.robustness.domain,
            "onnx_agreement": _rounded(export.agreement),
            "genes_format": None if export.genes_bytes is None else params.export.genes,
            "onnx_problem": export.problem,
            "commit": commit,
        }
    )


def _rounded(value: object, decimals: bool = True) -> object:
    """Six decimals, or six significant digits. Whole numbers, texts and None are returned as they are."""
    if not isinstance(value, float):
        return value
    return round(value, 6) if decimals else float(f"{value:.6g}")


def format_summary(s: Summary) -> Group:
    """The verdict on ``s``, and below it a short table with units, for a terminal."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    for name, value in _lines(s).items():
        table.add_row(name, Text(printable(value)))
    return Group(Text(" ".join(verdict(s))), "", table)


def summary_markdown(s: Summary) -> str:
    """The same as Markdown."""
    (_, title), *rows = ((name, value.replace("|", r"\|")) for name, value in _lines(s).items())
    return "\n".join(
        [" ".join(verdict(s)), "", f"| {title} | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    )


def verdict(s: Summary) -> list[str]:
    """What a newcomer asks first, in sentences: accuracy and size, those of the plain network, and what the search gained."""
    of_plain = "plain weights" if s.n_genes is None else f"{percent(s.parameter_ratio, 0)} of the plain network’s parameters"
    sentences = [f"{percent(s.test_accuracy)} of the test images are right, with {of_plain}."]
    if s.plain_test_accuracy is not None and s.test_images:
        points = 100 * (s.plain_test_accuracy - s.test_accuracy)
        certain = 200 * math.sqrt(sum(p * (1 - p) for p in (s.plain_test_accuracy, s.test_accuracy)) / s.test_images)
        than = f"{abs(points):.1f} points {'more' if points > 0 else 'less'}"
        if abs(points) < certain:
            than += f"; {s.test_images:,} test images cannot tell apart less than {certain:.1f}"
        sentences.append(f"The plain network, trained in this run too, reaches {percent(s.plain_test_accuracy)}: {than}.")
    if s.n_candidates > 1 and s.start_fitness is not None and s.best_fitness is not None:
        gain = s.start_fitness - s.best_fitness
        better = f"one whose fitness is lower by {number(gain)} than before" if gain > 0 else "none better than its start"
        sentences.append(f"The search found {describe_gain(s) or better}.")
    return sentences


def _lines(s: Summary) -> dict[str, str]:
    genes = "plain weights" if s.n_genes is None else f"{s.n_genes} genes, {s.variant}"
    size = f"{s.parameters:,} of {s.plain_parameters:,} plain = {percent(s.parameter_ratio, 1)}"
    if s.parameter_ratio > 1:
        size += ", larger than plain: lower network.n_genes, or raise network.width"
    sums = f", {energy_text(s.energy_of_sums_mj)} more for the residual sums" if s.energy_of_sums_mj else ""
    noise = "mean of the kinds of noise of events" if s.noise_domain == "events" else f"noise on the {s.noise_domain} input"
    lines = {
        "run": f"{s.network} × {s.width:.3g} on {s.dataset}, {genes}, seed {s.seed}",
        "test accuracy": percent(s.test_accuracy),
        "accuracy at noise r = 0.5": f"{percent(s.noise_accuracy)} ({noise})",
        "parameters": size,
        "energy per image": f"{energy_text(s.energy_mj)}, {energy_text(s.energy_with_decoding_mj)} with building W{sums}",
        "spikes per image": f"{s.spikes_per_image:,.0f}, firing rate {percent(s.firing_rate, 1)}",
        "evolution": _search(s),
        "ONNX": f"not possible: {s.onnx_problem}"
        if s.onnx_bytes is None
        else f"{s.onnx_bytes / 1e6:.2f} MB, agrees with torch on {percent(s.onnx_agreement)} of images",
        "NIR": nir(s),
    }
    if s.genes_bytes is not None:
        lines["genes"] = f"{s.genes_format}, {s.genes_bytes / 1e6:.3f} MB, test accuracy {percent(s.genes_accuracy)}"
    return lines | {"commit": s.commit or "none"} | ({"machine": s.machine} if s.machine else {})


def _search(s: Summary) -> str:
    """The cost and the winner of a search, next to its start and the best of the first, random candidates."""
    cost = f"{s.n_candidates:,} candidate{'s' if s.n_candidates > 1 else ''}, {s.image_passes or 0:,} image passes"
    words = f"; {text}" if (text := describe_gain(s)) else ""
    fitness = Searched.model_validate(s.model_dump(include=set(Searched.model_fields))).fitness_in_words(s.cost is not None)
    return f"{cost}{words}; {fitness}" if s.n_candidates else "none"


def describe_gain(s: Summary) -> str:
    """What a search of several objectives gained, in words; empty where it had one, or no spread over fresh draws is known."""
    if s.cost_ratio is None or s.gain_error is None or s.start_fitness is None or s.best_fitness is None:
        return ""
    less = s.start_fitness - s.best_fitness
    if s.cost_ratio == 1 and not less:
        return "no better network than the one before the search"
    alike = abs(less) < 2 * s.gain_error
    how = "as accurate as" if alike else "more accurate than" if less > 0 else "less accurate than"
    return f"one {how} the network before the search, for {s.cost_ratio:.2g} of its {s.cost}"


def nir(s: Summary) -> str:
    """Size of the NIR graph, and how far SpikingJelly, which reads it, agrees with torch."""
    if s.nir_bytes is None:
        return f"not possible: {s.nir_problem}" if s.nir_problem else "–"
    predictions, spikes = percent(s.nir_agreement), percent(s.nir_spike_agreement)
    return f"{s.nir_bytes / 1e6:.2f} MB, SpikingJelly agrees on {predictions} of images, {spikes} of spikes"


def percent(fraction: float | None, decimals: int = 2) -> str:
    """0.9583 → "95.83 %", with a no-break space."""
    return "–" if fraction is None or math.isnan(fraction) else f"{100 * fraction:.{decimals}f}\N{NO-BREAK SPACE}%"


def number(value: float | None) -> str:
    """Four significant digits, whole from 1,000 on, or a dash for None and NaN."""
    return "–" if value is None or math.isnan(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

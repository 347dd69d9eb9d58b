"""Summarises a run in some thirty values, for `gee summary`, `dvc metrics diff` and the head of the report."""

import hashlib
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gee_core.config import Params
from gee_core.errors import printable
from gee_core.evaluation.activity import energy_text, rate_text
from gee_core.storage.json_object import read_json_model
from pipelines.inputs.measured import MEASURES, Measured, Searched
from pipelines.tracking.tags import NOTE

if TYPE_CHECKING:
    from pipelines.runtime.run_folder import RunFolder

RESULT = "gee.result"
"""Tag of a pipeline's run in MLflow: the `result_id` of its summary.json."""


class Summary(BaseModel):
    """The content of reports/summary.json: settings and numbers of a run, without times, so that equal runs have equal files.

    Accuracies, rates and the ratio are fractions, energies are in mJ per image. ``plain_parameters`` are those of the found
    network with plain weights, ``configured_plain_parameters`` those of the plain network that was trained. A value that does
    not exist, such as the fitness of a plain network, is None.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    dataset: str
    network: str
    width: float
    n_genes: int | None
    variant: str
    seed: int
    test_accuracy: float
    test_images: int
    plain_test_accuracy: float | None = None
    plain_energy_mj: float | None = None
    start_test_accuracy: float | None = None
    start_energy_mj: float | None = None
    parameters: int
    plain_parameters: int
    configured_plain_parameters: int | None = None
    parameter_ratio: float
    energy_mj: float
    energy_with_decoding_mj: float
    energy_of_sums_mj: float
    spikes_per_image: float
    firing_rate: float
    T: int
    levels: int | None
    noise_accuracy: float
    noise_domain: str
    n_candidates: int
    best_fitness: float | None
    start_fitness: float | None = None
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
    update_bytes: int | None = None
    update_accuracy: float | None = None
    base_accuracy: float | None = None
    onnx_problem: str | None = None
    nir_bytes: int | None = None
    nir_agreement: float | None = None
    nir_spike_agreement: float | None = None
    machine: str | None = None
    commit: str | None

    @property
    def cost_share(self) -> float | None:
        """The cost over that of the start: of energy, as both have it when they are trained in full, if they were."""
        return self.energy_mj / self.start_energy_mj if self.cost == "energy" and self.start_energy_mj else self.cost_ratio

    def values(self) -> dict[str, object]:
        """As the file holds them: a reason why there is no ONNX only where there is one."""
        return {key: value for key, value in self.model_dump().items() if value is not None or key != "onnx_problem"}

    def text(self) -> str:
        """The file."""
        return json.dumps(self.values(), indent=2, allow_nan=False) + "\n"

    def numbers(self) -> dict[str, float]:
        """The results among the values, without settings, and without energies of 0, such as that of no residual sums."""
        values = self.model_dump(exclude={"width", "n_genes", "T", "levels", "seed", "test_images"})
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
        name: _rounded(value, getattr(MEASURES.get(re.sub("^(plain|start)_", "", name)), "unit", "fraction") == "fraction")
        for part in measured
        for name, value in part
        if name in Summary.model_fields
    }
    evaluate, export = measured.evaluate, measured.export
    plain_parameters = measured.plain.configured_plain_parameters or evaluate.plain_parameters
    return Summary.model_validate(
        {
            **shown,
            "dataset": params.prepare.data_name,
            "network": params.network.name,
            "width": params.network.width,
            "n_genes": params.network.n_genes,
            "T": params.network.T,
            "levels": params.network.levels,
            "variant": params.evolve.variant,
            "seed": params.base.seed,
            "test_images": test_images,
            "parameter_ratio": _rounded(evaluate.parameters / max(plain_parameters, 1)),
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
    right = f"{percent(s.test_accuracy)} of the {s.test_images:,} test images are right"
    sentences = [f"{right} (95\N{NO-BREAK SPACE}% interval {interval(s.test_accuracy, s.test_images)}), with {of_plain}."]
    if s.plain_test_accuracy is not None:
        sentences.append(f"The plain network, trained in this run too, {_reaches(s, s.plain_test_accuracy)}.")
    if gain := describe_gain(s):
        sentences.append(f"The search {gain}.")
    if gain and s.start_test_accuracy is not None:
        sentences.append(f"Its start, trained in full too, {_reaches(s, s.start_test_accuracy)}.")
    others = [p for p in (s.plain_test_accuracy, s.start_test_accuracy) if p not in (None, s.test_accuracy)]
    if unclear := [noise for p in others if abs(p - s.test_accuracy) <= (noise := _noise(s, p))]:
        sentences.append(f"With {s.test_images:,} test images, differences below {100 * max(unclear):.1f} points are noise.")
    if s.random_fitness is not None and s.best_fitness is not None and s.random_fitness < s.best_fitness:
        lower = f"a lower fitness ({number(s.random_fitness)}) than the winner"
        sentences.append(f"In short trainings, the best random candidate had {lower} ({number(s.best_fitness)}).")
    return sentences


def _reaches(s: Summary, accuracy: float) -> str:
    points = 100 * (accuracy - s.test_accuracy)
    if not round(points, 1):
        return f"also reaches {percent(accuracy)}"
    return f"reaches {percent(accuracy)}, {abs(points):.1f} points {'more' if points > 0 else 'less'}"


def _noise(s: Summary, other: float) -> float:
    """Two standard errors of the difference between the accuracies of two networks."""
    return 2 * math.sqrt(sum(p * (1 - p) for p in (s.test_accuracy, other)) / s.test_images)


def interval(accuracy: float, n: int) -> str:
    """Wilson's 95 % interval of an accuracy on ``n`` images: "96.8 … 99.4 %".

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927.
    """
    z2 = 1.96**2 / n
    middle, half = accuracy + z2 / 2, math.sqrt(z2 * (accuracy * (1 - accuracy) + z2 / 4))
    return f"{100 * (middle - half) / (1 + z2):.1f} … {percent((middle + half) / (1 + z2), 1)}"


def describe_gain(s: Summary) -> str:
    """What the search did, in words. Accuracies are compared on the test images, where its start was trained in full."""
    if s.n_candidates < 2 or s.start_fitness is None or s.best_fitness is None:
        return ""
    gain, share, start = s.start_fitness - s.best_fitness, s.cost_share, s.start_test_accuracy
    if share is None and gain > 0:
        return f"lowered the fitness by {number(gain)} in short trainings"
    points = 0.0 if start is None or abs(s.test_accuracy - start) <= _noise(s, start) else 100 * (s.test_accuracy - start)
    less = round(100 * (1 - share)) if share else 0
    if less <= 0 and points <= 0:
        return "found no network better than its start"
    how = " at the same accuracy" if start is not None else " in short trainings, and its start was not trained in full"
    if points:
        how = f" and {'gained' if points > 0 else 'lost'} {abs(points):.1f} points of accuracy"
    return f"{'cut' if less > 0 else 'raised'} the {s.cost} by {abs(less)}\N{NO-BREAK SPACE}%{how}"


def _lines(s: Summary) -> dict[str, str]:
    genes = "plain weights" if s.n_genes is None else f"{s.n_genes} genes, {s.variant}"
    plain_parameters = s.configured_plain_parameters or s.plain_parameters
    size = f"{s.parameters:,} of {plain_parameters:,} plain = {percent(s.parameter_ratio, 1)}"
    if s.parameters > s.plain_parameters:
        size += ", larger than plain: lower network.n_genes, or raise network.width"
    of_start = f", {percent(s.energy_mj / s.start_energy_mj, 0)} of the start’s" if s.start_energy_mj else ""
    of_plain = f", plain network {energy_text(s.plain_energy_mj)}" if s.plain_energy_mj else ""
    sums = f", {energy_text(s.energy_of_sums_mj)} more for the residual sums" if s.energy_of_sums_mj else ""
    noise = "mean of the kinds of noise of events" if s.noise_domain == "events" else f"noise on the {s.noise_domain} input"
    decoding = energy_text(s.energy_with_decoding_mj)
    building = f"{decoding} if W is built for every image. Genes save flash and transfer, not memory or energy"
    lines = {
        "run": f"{s.network} × {s.width:.3g} on {s.dataset}, {genes}, seed {s.seed}",
        "test accuracy": percent(s.test_accuracy),
        "accuracy at noise r = 0.5": f"{percent(s.noise_accuracy)} ({noise})",
        "parameters": size,
        "energy per image": f"{energy_text(s.energy_mj)}{of_start}{of_plain}{sums}",
        **({} if s.n_genes is None else {"building W": building}),
        "spikes per image": f"{s.spikes_per_image:,.0f}, {rate_text(s.firing_rate, s.T, s.levels)}",
        "evolution": _search(s),
        "ONNX": f"not possible: {s.onnx_problem}"
        if s.onnx_bytes is None
        else f"{s.onnx_bytes / 1e6:.2f} MB, agrees with torch on {percent(s.onnx_agreement)} of images",
    }
    if s.nir_bytes is not None:
        lines["NIR"] = nir(s)
    if s.genes_bytes is not None:
        lines["genes"] = f"{s.genes_format}, {s.genes_bytes / 1e6:.3f} MB, test accuracy {percent(s.genes_accuracy)}"
    if s.update_bytes is not None:
        before = "" if s.base_accuracy is None else f", {percent(s.base_accuracy)} without it"
        lines["update"] = f"{s.update_bytes:,} bytes, test accuracy {percent(s.update_accuracy)}{before}"
    return lines | {"commit": s.commit or "none"} | ({"machine": s.machine} if s.machine else {})


def _search(s: Summary) -> str:
    """The cost and the winner of a search, next to its start and the best of the first, random candidates."""
    cost = f"{s.n_candidates:,} candidate{'s' if s.n_candidates > 1 else ''}, {s.image_passes or 0:,} image passes"
    fitness = Searched.model_validate(s.model_dump(include=set(Searched.model_fields))).fitness_in_words()
    return f"{cost}; in short trainings, {fitness}" if s.n_candidates else "none"


def nir(s: Summary) -> str:
    """Size of the NIR graph, and how far SpikingJelly, which reads it, agrees with torch."""
    predictions, spikes = percent(s.nir_agreement), percent(s.nir_spike_agreement)
    return f"{(s.nir_bytes or 0) / 1e6:.2f} MB, SpikingJelly agrees on {predictions} of images, {spikes} of spikes"


def percent(fraction: float | None, decimals: int = 2) -> str:
    """0.9583 → "95.83 %", with a no-break space."""
    return "–" if fraction is None or math.isnan(fraction) else f"{100 * fraction:.{decimals}f}\N{NO-BREAK SPACE}%"


def number(value: float | None) -> str:
    """Four significant digits, whole from 1,000 on, or a dash for None and NaN."""
    return "–" if value is None or math.isnan(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

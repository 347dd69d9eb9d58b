"""What a run found, in sentences and a table: its accuracy and costs beside those of the other networks trained in it."""

import math
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gee_core.errors import printable
from gee_core.evaluation.activity import energy_text, rate_text
from pipelines.inputs.measured import Searched
from pipelines.reporting.summary import RESULT, Summary, result_id
from pipelines.tracking.tags import NOTE

if TYPE_CHECKING:
    from pipelines.runtime.run_folder import RunFolder


def track_result(summary: Summary, run: "RunFolder") -> None:
    """Note the result of an execution in its run."""
    run.note(metrics=summary.numbers(), tags={RESULT: result_id(summary), NOTE: summary_markdown(summary)})


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


def _lines(s: Summary) -> dict[str, str]:
    genes = "plain weights" if s.n_genes is None else f"{s.n_genes} genes, {s.variant}"
    plain_parameters = s.configured_plain_parameters or s.plain_parameters
    size = f"{s.parameters:,} of {plain_parameters:,} plain = {percent(s.parameter_ratio, 1)}"
    if s.parameters > s.plain_parameters:
        size += ", larger than plain: lower network.n_genes, or raise network.width"
    of_start = f", {percent(s.energy_mj / s.start_energy_mj, 0)} of the start’s" if s.start_energy_mj else ""
    of_plain = f", plain network {energy_text(s.plain_energy_mj)}" if s.plain_energy_mj else ""
    budget = ", ".join(text for *_, text in s.used().values())
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
        **({"budget": budget} if budget else {}),
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


def verdict(s: Summary) -> list[str]:
    """What a newcomer asks first, in sentences: accuracy and costs, those of the other networks, and what the search gained."""
    parts = (
        [f"{percent(s.parameter_ratio, 0)} of the plain network’s parameters"] if s.n_genes is not None else ["plain weights"]
    )
    if s.plain_energy_mj:
        parts.append(f"{percent(s.energy_mj / s.plain_energy_mj, 0)} of its energy")
    right = f"{percent(s.test_accuracy)} of the {s.test_images:,} test images are right"
    sentences = [
        f"{right} (95\N{NO-BREAK SPACE}% interval {interval(s.test_accuracy, s.test_images)}), with {' and '.join(parts)}."
    ]
    if used := s.used():
        sentences.append(f"It needs {', '.join(text for *_, text in used.values())} of its budget.")
    for name, (value, most, _) in used.items():
        if value > most:
            sentences.append(f"That is {percent(value / most - 1, 1)} more {name} than the budget allows.")
    if s.plain_test_accuracy is not None:
        sentences.append(f"The plain network, trained in this run too, {_reaches(s, s.plain_test_accuracy)}.")
    if s.start_test_accuracy is not None and s.start_energy_mj:
        share = percent(s.energy_mj / s.start_energy_mj, 0)
        reaches = _reaches(s, s.start_test_accuracy)
        sentences.append(
            f"The start of the search, trained in full too, {reaches}. The found network needs {share} of its energy."
        )
    narrowed = {"the start": s.narrowed_test_accuracy, "the plain network": s.narrowed_plain_test_accuracy}
    reached = [f"{name} {_reaches(s, accuracy)}" for name, accuracy in narrowed.items() if accuracy is not None]
    if reached:
        sentences.append(f"Narrowed until it fits into the budget, {', and '.join(reached)}.")
    compared = [s.plain_test_accuracy, s.start_test_accuracy, *narrowed.values()]
    others = [p for p in compared if p not in (None, s.test_accuracy)]
    if unclear := [noise for p in others if abs(p - s.test_accuracy) <= (noise := _noise(s, p))]:
        sentences.append(f"With {s.test_images:,} test images, differences below {100 * max(unclear):.1f} points are noise.")
    if gain := describe_gain(s):
        sentences.append(f"In short trainings, the search {gain}.")
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
    """What the search did in short trainings, in words."""
    if s.n_candidates < 2 or s.start_fitness is None or s.best_fitness is None:
        return ""
    if (gain := s.start_fitness - s.best_fitness) <= 0:
        return "found no network better than its start"
    return f"lowered the fitness by {number(gain)}"


def percent(fraction: float | None, decimals: int = 2) -> str:
    """0.9583 → "95.83 %", with a no-break space."""
    return "–" if fraction is None or math.isnan(fraction) else f"{100 * fraction:.{decimals}f}\N{NO-BREAK SPACE}%"


def number(value: float | None) -> str:
    """Four significant digits, whole from 1,000 on, or a dash for None and NaN."""
    return "–" if value is None or math.isnan(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

"""Summarises a run in some twenty values, for `gee summary`, `dvc metrics diff` and the head of the report."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from gee_core.config import Params
from gee_core.errors import InputError
from gee_core.evaluation.activity import energy_text
from gee_core.storage.json_object import read_json_object
from pipelines.inputs.evaluation import Evaluation, read_evaluation


class Measured(NamedTuple):
    """What the stages of a run measured: the content of their metrics.json."""

    evolve: dict
    evaluate: Evaluation
    robustness: dict
    export: dict


def read_measured(reports: Path) -> Measured:
    """What the stages of a run measured, from their files under ``reports``.

    Raises:
        InputError: a metrics file is missing, is not JSON, or lacks a number.
    """
    return Measured(
        evolve=read_json(reports / "evolve/metrics.json", "n_candidates"),
        evaluate=read_evaluation(reports),
        robustness=read_json(reports / "robustness/metrics.json", "noise_accuracy", "clean_accuracy"),
        export=read_json(reports / "export/metrics.json", "onnx_bytes", "agreement", unless="problem"),
    )


def build_summary(params: Params, measured: Measured, commit: str | None) -> dict:
    """The metrics of a run's stages, without times, so that equal runs have equal summaries.

    Accuracies, rates and the ratio are fractions, energies are in mJ per image. A value that does not exist, such as the
    fitness of a plain network, is None.
    """
    evolve, evaluate, robustness, export = measured
    return {
        "dataset": params.prepare.data_name,
        "network": params.network.name,
        "width": params.network.width,
        "n_genes": params.network.n_genes,
        "variant": params.evolve.variant,
        "seed": params.base.seed,
        "test_accuracy": _decimals(evaluate.test_accuracy),
        "parameters": evaluate.parameters,
        "plain_parameters": evaluate.plain_parameters,
        "parameter_ratio": _decimals(evaluate.parameters / max(evaluate.plain_parameters, 1)),
        "energy_mj": _significant(evaluate.energy_mj),
        "energy_with_decoding_mj": _significant(evaluate.energy_with_decoding_mj),
        "energy_of_sums_mj": _significant(evaluate.energy_of_sums_mj),
        "spikes_per_image": _significant(evaluate.spikes_per_image),
        "firing_rate": _decimals(evaluate.firing_rate),
        "noise_accuracy": _decimals(robustness["noise_accuracy"]),
        "noise_domain": params.robustness.domain,
        "n_candidates": evolve["n_candidates"],
        "best_fitness": _decimals(evolve.get("best_fitness")),
        "onnx_bytes": export.get("onnx_bytes"),
        "onnx_agreement": _decimals(export.get("agreement")),
        "genes_format": params.export.genes if "genes_bytes" in export else None,
        "genes_bytes": export.get("genes_bytes"),
        "genes_accuracy": _decimals(export.get("genes_accuracy")),
        **({"onnx_problem": export["problem"]} if "problem" in export else {}),
        "nir_bytes": export.get("nir_bytes"),
        "nir_agreement": _decimals(export.get("nir_agreement")),
        "nir_spike_agreement": _decimals(export.get("nir_spike_agreement")),
        **({"nir_problem": export["nir_problem"]} if "nir_problem" in export else {}),
        "commit": commit,
    }


def format_summary(s: dict) -> Table:
    """The summary ``s`` as a short table with units, for a terminal."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    for name, value in _lines(s).items():
        table.add_row(name, Text(value))
    return table


def summary_markdown(s: dict) -> str:
    """The same table as Markdown."""
    (_, title), *rows = ((name, value.replace("|", r"\|")) for name, value in _lines(s).items())
    return "\n".join([f"| {title} | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _lines(s: dict) -> dict[str, str]:
    genes = "plain weights" if s["n_genes"] is None else f"{s['n_genes']} genes, {s['variant']}"
    searched = "none" if not s["n_candidates"] else f"{s['n_candidates']:,}, best fitness {number(s['best_fitness'])}"
    size = f"{s['parameters']:,} of {s['plain_parameters']:,} unencoded = {percent(s['parameter_ratio'], 1)}"
    if s["parameter_ratio"] > 1:
        size += ", larger than unencoded: lower network.n_genes, or raise network.width"
    sums = f", {energy(s['energy_of_sums_mj'])} more for the residual sums" if s["energy_of_sums_mj"] else ""
    return {
        "run": f"{s['network']} × {s['width']:g} on {s['dataset']}, {genes}, seed {s['seed']}",
        "test accuracy": percent(s["test_accuracy"]),
        "accuracy at noise r = 0.5": f"{percent(s['noise_accuracy'])} (noise on the {s['noise_domain']} input)",
        "parameters": size,
        "energy per image": f"{energy(s['energy_mj'])}, {energy(s['energy_with_decoding_mj'])} with building W{sums}",
        "spikes per image": f"{s['spikes_per_image']:,.0f}, firing rate {percent(s['firing_rate'], 1)}",
        "candidates": searched,
        "ONNX": f"not possible: {s['onnx_problem']}" if s.get("onnx_problem") else onnx(s),
        "NIR": nir(s),
        **({"genes": genes_file(s)} if s.get("genes_bytes") else {}),
        "commit": s["commit"] or "none",
    }


def onnx(s: dict) -> str:
    """Size of the exported network, and how far it agrees with torch."""
    return f"{s['onnx_bytes'] / 1e6:.2f} MB, agrees with torch on {percent(s['onnx_agreement'])} of images"


def nir(s: dict) -> str:
    """Size of the NIR graph, and how far SpikingJelly, which reads it, agrees with torch."""
    if s.get("nir_bytes") is None:
        return f"not possible: {s['nir_problem']}" if s.get("nir_problem") else "–"
    predictions, spikes = percent(s["nir_agreement"]), percent(s["nir_spike_agreement"])
    return f"{s['nir_bytes'] / 1e6:.2f} MB, SpikingJelly agrees on {predictions} of images, {spikes} of spikes"


def genes_file(s: dict) -> str:
    """Format, size and accuracy of genes.safetensors."""
    return f"{s['genes_format']}, {s['genes_bytes'] / 1e6:.3f} MB, test accuracy {percent(s['genes_accuracy'])}"


def percent(fraction: float | None, decimals: int = 2) -> str:
    """0.9583 → "95.83 %", with a no-break space."""
    return "–" if fraction is None else f"{100 * fraction:.{decimals}f}\N{NO-BREAK SPACE}%"


def number(value: float | None) -> str:
    """Four significant digits, or a dash for None and NaN."""
    return "–" if value is None or math.isnan(value) else f"{value:.4g}"


def energy(mj: float | None) -> str:
    """0.00123 → "1.23 µJ", and a dash for None."""
    return "–" if mj is None else energy_text(mj)


@contextmanager
def reading(path: Path, form: str, remedy: str = "run `dvc repro`") -> Iterator[None]:
    """Turn errors of the body, which reads another stage's file, into an ``InputError`` with a ``remedy`` for damage."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: not found", "run `dvc repro`, which makes it") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as {form} ({reason})", f"delete it and {remedy}") from None


def read_json(path: Path, *keys: str, unless: str | None = None, remedy: str = "run `dvc repro`") -> dict:
    """A JSON object that must hold ``keys``, unless it holds the key ``unless``.

    Raises:
        InputError: it is missing, is not JSON, or lacks a key.
    """
    with reading(path, "JSON", remedy):
        values = read_json_object(path)
    if missing := [key for key in keys if values.get(key) is None and unless not in values]:
        raise InputError(f"{path}: {', '.join(missing)} missing", f"delete the file and {remedy}")
    return values


def _decimals(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)


def _significant(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")

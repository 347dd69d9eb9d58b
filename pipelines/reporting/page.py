"""The report page, made of a template, the tables that the stages wrote and the figures of a run."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup

from gee_core import __version__
from gee_core.config import Params, Shape
from gee_core.config.evolve import SWITCHES
from gee_core.config.genes import GENES, Gene
from gee_core.config.network import encoded_channels, is_own
from gee_core.config.prepare import DATASETS
from gee_core.data.meta import Meta
from gee_core.evaluation.activity import energy_unit
from gee_core.evolution.candidate import START
from gee_core.genome.genotype import configured_genotype
from gee_core.storage.csv_rows import unescaped
from pipelines.figures import measurements, search
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.inputs.measured import Measured
from pipelines.reporting.model_readme import as_yaml, template
from pipelines.reporting.summary import RESULT, Summary, result_id
from pipelines.reporting.verdict import interval, nir, number, percent, verdict
from pipelines.runtime.input_errors import reading

Row = dict[str, object]
"""Of a table, for the page."""


class Tables(NamedTuple):
    """The tables of a run. In the confusion table every cell is a string, even "NA", "1" and ""."""

    candidates: pd.DataFrame
    history: pd.DataFrame
    layers: pd.DataFrame
    confusion: pd.DataFrame
    exit: pd.DataFrame
    """No rows where `evaluate.exit` is null."""
    noise: pd.DataFrame
    hardware: pd.DataFrame
    """No rows where `robustness.hardware` is null."""


def read_tables(reports: Path, class_names: Sequence[str]) -> Tables:
    """The tables of the run whose files lie under ``reports``, of images of ``class_names``.

    Raises:
        InputError: a file is missing or damaged, or names a class that the images do not have.
    """
    energies = ["macs", "input_rate", "energy_mj", "decode_macs", "decode_energy_mj", "output_rate"]
    confusion = _table(path := reports / "evaluate/confusion.csv", [], ["actual", "predicted"], texts=True)
    with reading(path):
        if unknown := {*confusion["actual"], *confusion["predicted"]} - {*class_names}:
            raise ValueError(f"the images have no class {min(unknown)!r}")
    return Tables(
        candidates=_table(reports / "evolve/candidates.csv", ["generation", "index", "fitness"], ["rescored", "winner"]),
        history=_table(reports / "train/history.csv", ["epoch", "train_loss", "train_accuracy"]),
        layers=_table(reports / "evaluate/layers.csv", energies, ["layer", "kind", "binary"]),
        confusion=confusion,
        exit=_table(reports / "evaluate/exit.csv", ["confidence", "accuracy", "mean_steps", "energy_mj"]),
        noise=_table(reports / "robustness/noise.csv", ["r", "seed", "accuracy"], ["domain"]),
        hardware=_table(reports / "robustness/hardware.csv", ["strength", "draw", "accuracy"], ["domain"]),
    )


def _table(path: Path, numbers: list[str], others: Sequence[str] = (), texts: bool = False) -> pd.DataFrame:
    """The table in the file ``path``, with columns of ``numbers`` and ``others``. With ``texts`` every cell is a string."""
    with reading(path):
        table = pd.read_csv(path, dtype=str if texts else dict.fromkeys(numbers, float), keep_default_na=not texts)
        if missing := [column for column in (*others, *numbers) if column not in table]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        for column in others:
            table[column] = [unescaped(cell) if isinstance(cell, str) else cell for cell in table[column]]
        return table


def gene_table(params: Params, genotype: GenotypeFile) -> list[Row]:
    """The genes that were searched or are not neutral: ``symbol, effect, winner, neutral, range``. A plain network has none.

    Neutral is the analytic σ, 0 for genes of shape, and of others the setting. The ``range`` of the search is None for σ's.
    """
    if not genotype.genes:
        return []
    neutral = params.evolve.proxy.model_dump() | params.network.model_dump()
    neutral |= replace(configured_genotype(params.with_genes(genotype.genes).network), shape=Shape()).as_dict()
    rows = []
    for name, value in genotype.genes.items():
        gene = GENES.get(name, Gene("wiring", 0, 0, f"σ_{name[6:]}: standard deviation of X_{name[6:]}"))
        unit = neutral[name] if gene.relative else 1
        symbol, _, effect = gene.about.partition(": ")
        if name in genotype.searched or not math.isclose(value, neutral[name]):
            row = {"symbol": symbol, "effect": effect, "winner": value, "neutral": neutral[name]}
            shown = name in genotype.searched and gene.group != "wiring"
            rows.append(row | {"range": (gene.low * unit, gene.high * unit) if shown else None})
    return rows


def rescored_table(candidates: pd.DataFrame) -> list[Row]:
    """One row per wiring that was scored again: ``name, start, mean, sd, draws, failed, won, gain, error, certain``.

    The ``gain`` is how much lower the winner's mean is on the same draws, and ``error`` its standard error. Both may be NaN.
    It is ``certain`` from two standard errors on.
    """
    searched = search.searched_rows(candidates)
    again = search.fresh_rows(candidates)
    if again.empty:
        return []
    label = [*candidates.loc[candidates["winner"], "rescored"]]
    won = again.loc[again["rescored"].isin(label), "final_fitness"].to_numpy()
    rows = []
    for name, group in again.groupby("rescored", sort=False):
        F = group["final_fitness"]
        below = pd.Series(F.to_numpy() - won if len(won) == len(F) else np.nan).dropna()
        row = {"name": name, "start": name == START and len(searched) > 1, "won": name in label}
        row |= {"mean": F.mean(), "sd": F.std(), "draws": len(F), "failed": int(F.isna().sum())}
        rows.append(row | {"gain": (gain := below.mean()), "error": (error := below.sem()), "certain": gain >= 2 * error})
    return rows


class Recognised(NamedTuple):
    """How a class is recognised."""

    name: str
    share: float
    """The fraction of its test images that is recognised."""
    n_images: int
    mistake: str | None
    """The class that its images are most often taken for. None where all are recognised."""


def recognition_table(confusion: pd.DataFrame, class_names: Sequence[str]) -> list[Recognised]:
    """The classes with test images, the least recognised first."""
    counts = measurements.confusion_counts(confusion, class_names)
    n_images, right = counts.sum(axis=1), counts.diagonal().copy()
    np.fill_diagonal(counts, 0)
    rows = []
    for k in map(int, np.flatnonzero(n_images)):
        mistake = class_names[counts[k].argmax()] if counts[k].any() else None
        rows.append(Recognised(class_names[k], right[k] / n_images[k], int(n_images[k]), mistake))
    return sorted(rows, key=lambda row: row.share)


def render(params: Params, measured: Measured, summary: Summary, meta: Meta, genotype: GenotypeFile, tables: Tables) -> str:
    """The page as HTML, with the filter that finds the run with the same result in MLflow."""
    network, names = params.with_genes(genotype.genes).network, meta.class_names
    channels = encoded_channels(network.name, network.width, network.tilt)
    layers = tables.layers.fillna({"decode_energy_mj": 0.0})
    scored, rescored = search.searched_rows(tables.candidates), rescored_table(tables.candidates)
    failed, outside = (scored.loc[scored["status"].str.startswith(kind), "status"] for kind in ("failed", "outside"))
    by_class = recognition_table(tables.confusion, names)
    effects = search.gene_correlations(tables.candidates, genotype.searched)
    svgs = draw(tables, names, measured, genotype)
    return template("report.html", percent=percent, number=number, interval=interval).render(
        svg={key: Markup(svg) for key, svg in svgs.items()},
        params=params,
        own=is_own(params.network.name),
        params_yaml="".join(f"{name}:\n{as_yaml(section)}" for name, section in params),
        s=summary,
        meta=meta,
        dataset=DATASETS[summary.dataset].title if summary.dataset in DATASETS else summary.dataset,
        genotype=genotype,
        measured=measured,
        genes=gene_table(params, genotype),
        n_effects=effects["n"].max() if len(effects) else 0,
        idle=search.idle_genes(effects),
        fixed=[name for name in genotype.searched if name not in set(effects["gene"])],
        rewards=[name for name, used in zip(("R_T", "R_S"), SWITCHES[params.evolve.variant], strict=True) if used],
        n_wide=sum(n < (network.n_genes or 0) for n in channels[:-1]),
        n_convs=len(channels) - 1,
        mlflow_filter=f"tags.\"{RESULT}\" = '{result_id(summary)}'",
        nir=nir(summary),
        rescored=rescored,
        version=__version__,
        verdict=verdict(summary),
        again=next((row for row in rescored if row["won"]), None),
        start=next((row for row in rescored if row["start"]), None),
        n_mistakes=int((tables.confusion["actual"] != tables.confusion["predicted"]).sum()),
        n_failed=len(failed),
        n_outside=len(outside),
        failures=failed.value_counts().head(5).to_dict(),
        history=tables.history.iloc[-1].to_dict(),
        layers=layers.to_dict("records"),
        energy_unit=energy_unit((layers["energy_mj"] + layers["decode_energy_mj"]).max()),
        exits=tables.exit.to_dict("records"),
        recognised=by_class,
        balanced_accuracy=fmean(row.share for row in by_class) if by_class else None,
    )


def draw(tables: Tables, names: Sequence[str], measured: Measured, genotype: GenotypeFile) -> dict[str, str]:
    """The figures for which the tables have data, as SVG text."""
    evaluate, export = measured.evaluate, measured.export
    sizes = {"plain weights": 4 * evaluate.plain_parameters, "network.onnx": export.onnx_bytes, "network.nir": export.nir_bytes}
    if evaluate.parameters != evaluate.plain_parameters:
        sizes |= {"genes": 4 * evaluate.parameters, "genes.onnx": export.genes_onnx_bytes}
    sizes["genes.safetensors"] = export.genes_bytes
    svgs = {
        "raster": measurements.raster(measured.shown.spikes, tables.layers),
        "genes": search.genes(measured.shown.maps, {name: size / 1000 for name, size in sizes.items() if size}),
        "training": measurements.training_curve(tables.history),
        "energy": measurements.energy_per_layer(tables.layers),
        "noise": measurements.accuracy_over_noise(tables.noise, measured.robustness.clean_accuracy),
        "confusion": measurements.confusion_matrix(tables.confusion, names),
    }
    if len(tables.hardware):
        svgs["hardware"] = measurements.accuracy_under_defects(tables.hardware)
    if len(search.searched_rows(tables.candidates)) > 1:
        title = f"The winner’s fitness {number(measured.evolve.best_fitness)}, {measured.evolve.scored_on}"
        svgs["fitness"] = search.fitness_over_generations(tables.candidates, title)
    return svgs | search_figures(tables.candidates, genotype)


def search_figures(candidates: pd.DataFrame, genotype: GenotypeFile) -> dict[str, str]:
    """The figures of a search's genes for which there are data, as SVG text."""
    effects = search.gene_correlations(candidates, genotype.searched)
    return {"gene_effects": search.gene_effects(effects)} if len(effects) else {}

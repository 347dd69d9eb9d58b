"""The report page, made of a template, the tables of a run and its figures."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd
from markupsafe import Markup

from gee_core.config import Params
from gee_core.config.evolve import SWITCHES
from gee_core.config.network import encoded_channels, is_own
from gee_core.config.prepare import DATASETS
from gee_core.data.meta import Meta
from gee_core.evaluation.activity import energy_unit
from pipelines.figures import measurements, search
from pipelines.inputs.genotype_file import FrontFile, GenotypeFile
from pipelines.inputs.measured import Measured
from pipelines.reporting.model_readme import as_yaml, template
from pipelines.reporting.summary import RESULT, Summary, describe_gain, nir, number, percent, result_id, verdict
from pipelines.reporting.tables import Tables, effect_table, front_table, gene_table, recognition_table, rescored_table

TITLES = {name: known.title for name, known in DATASETS.items()}


def render(params: Params, measured: Measured, summary: Summary, meta: Meta, genotype: GenotypeFile, tables: Tables) -> str:
    """The page as HTML, with the filter that finds the run with the same result in MLflow."""
    network, names = params.with_genes(genotype.genes).network, meta.class_names
    channels = encoded_channels(network.name, network.width, network.tilt)
    layers = tables.layers.fillna({"decode_energy_mj": 0.0})
    scored, rescored = search.searched_rows(tables.candidates), rescored_table(tables.candidates)
    failed, outside = (scored.loc[scored["status"].str.startswith(kind), "status"] for kind in ("failed", "outside"))
    by_class = recognition_table(tables.confusion, names)
    effects = effect_table(tables.candidates, genotype, tables.front)
    return fill_in(
        "report.html",
        draw(tables, names, measured, genotype),
        params=params,
        own=is_own(params.network.name),
        params_yaml="".join(f"{name}:\n{as_yaml(section)}" for name, section in params),
        s=summary,
        meta=meta,
        dataset=TITLES.get(summary.dataset, summary.dataset),
        genotype=genotype,
        measured=measured,
        genes=gene_table(params, genotype),
        front=tables.front,
        points=[] if tables.front is None else front_table(tables.front, tables.candidates).to_dict("records"),
        n_effects=effects["n"].max() if len(effects) else 0,
        idle=search.idle_genes(effects),
        fixed=[name for name in genotype.searched if name not in set(effects["gene"])],
        rewards=[name for name, used in zip(("R_T", "R_S"), SWITCHES[params.evolve.variant], strict=True) if used],
        n_wide=sum(n < (network.n_genes or 0) for n in channels[:-1]),
        n_convs=len(channels) - 1,
        mlflow_filter=f"tags.\"{RESULT}\" = '{result_id(summary)}'",
        nir=nir(summary),
        rescored=rescored,
        in_words=describe_gain(summary),
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
        balanced_accuracy=fmean(row["share"] for row in by_class) if by_class else None,
    )


def fill_in(name: str, svgs: Mapping[str, str], **values: Any) -> str:
    """The page that the template ``name`` makes of figures and ``values``. It needs no other file."""
    page = template(name, percent=percent, number=number, error=standard_error)
    return page.render(svg={key: Markup(svg) for key, svg in svgs.items()}, **values)


def standard_error(accuracy: float, n: int, decimals: int = 2) -> str:
    """The standard error of an accuracy on ``n`` images: "± 0.62 %"."""
    return f"± {percent(math.sqrt(accuracy * (1 - accuracy) / n), decimals)}"


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
        found, name = measured.evolve, "loss" if tables.front else "fitness"
        title = f"The winner’s {name} {number(found.best_fitness)}, {found.scored_on}"
        svgs["fitness"] = search.fitness_over_generations(tables.candidates, title)
    return svgs | search_figures(tables.candidates, genotype, tables.front)


def search_figures(candidates: pd.DataFrame, genotype: GenotypeFile, front: FrontFile | None) -> dict[str, str]:
    """The figures of a search's genes and of its ``front``, for which there are data, as SVG text."""
    effects = effect_table(candidates, genotype, front)
    svgs = {"gene_effects": search.gene_effects(effects)} if len(effects) else {}
    if front:
        svgs["front"] = search.front_of_candidates(candidates, front_table(front, candidates), front.chosen)
    return svgs

"""The report page, made of a template, the tables of a run and its figures."""

import io
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup
from ruamel.yaml import YAML

from gee_core.config import Params
from gee_core.config.datasets import DATASETS
from gee_core.config.evolve import SWITCHES
from gee_core.config.known_networks import encoded_channels, is_own
from gee_core.data.meta import Meta
from gee_core.evaluation.activity import energy_text, energy_unit
from pipelines.figures import genes, measurements
from pipelines.figures.candidates import searched_rows, start_of_search
from pipelines.figures.hardware_defects import accuracy_under_defects, defect_table
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.inputs.measured import Measured
from pipelines.inputs.start_genotype import analytic_start
from pipelines.reporting.paper import PUBLISHED_ON, paper_rows
from pipelines.reporting.result import RESULT
from pipelines.reporting.stage_files import Tables
from pipelines.reporting.summary import Summary, nir, number, percent
from pipelines.reporting.tables import confusions, recognised, rescored_table, shape_table, wiring_table

TEMPLATES = Path(__file__).parent / "templates"
MLFLOW = "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&searchFilter="
"""The runs of the first experiment of the project's own mlflow.db, in its view for trained models; a quoted filter follows."""
TITLES = {name: known.title for name, known in DATASETS.items()} | {"imagenet": "ImageNet"}


def render(
    params: Params, measured: Measured, summary: Summary, result: str, meta: Meta, genotype: GenotypeFile, tables: Tables
) -> str:
    """The page as HTML, with a link to the run in MLflow that is tagged with ``result``.

    Raises:
        InputError: the genotype or the tables are of another network.
    """
    channels = encoded_channels(params.network.name, params.network.width)
    analytic = None if params.network.n_genes is None else analytic_start(params)
    wiring = wiring_table(genotype.genotype, analytic, tables.layers)
    searched = params.searched_genes() if params.evolve.searches else ()
    shape = shape_table(genotype.shape, start_of_search(tables.candidates), searched)
    svgs = draw(params, tables, wiring, shape, meta.class_names, measured.robustness.clean_accuracy)
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"percent": percent, "energy": energy_text, "number": number}
    return env.get_template("report.html").render(
        params=params,
        own=is_own(params.network.name),
        params_yaml=as_yaml(params),
        s=summary,
        meta=meta,
        dataset=TITLES.get(summary.dataset, summary.dataset),
        genotype=genotype,
        evolve=measured.evolve,
        evaluate=measured.evaluate,
        wiring=wiring.to_dict("records"),
        shape=shape.to_dict("records"),
        rewards=[name for name, used in zip(("R_T", "R_S"), SWITCHES[params.evolve.variant], strict=True) if used],
        paper=paper_rows(),
        n_wide=sum(n < (params.network.n_genes or 0) for n in channels[:-1]),
        n_convs=len(channels) - 1,
        published_on={name: TITLES[name] for name in PUBLISHED_ON},
        mlflow_filter=(query := f"tags.\"{RESULT}\" = '{result}'"),
        mlflow=MLFLOW + quote(query),
        nir=nir(summary),
        hardware_left_out=measured.robustness.hardware_left_out,
        svg={name: Markup(svg) for name, svg in svgs.items()},
        **table_values(tables, meta.class_names),
    )


def draw(
    params: Params,
    tables: Tables,
    wiring: pd.DataFrame,
    shape: pd.DataFrame,
    class_names: Sequence[str],
    clean_accuracy: float,
) -> dict[str, str]:
    """The figures for which the tables have data, as SVG text."""
    svgs = {
        "training": measurements.training_curve(tables.history),
        "energy": measurements.energy_per_layer(tables.layers),
        "noise": measurements.accuracy_over_noise(tables.noise, clean_accuracy),
        "confusion": measurements.confusion_matrix(tables.confusion, class_names),
    }
    if len(tables.hardware):
        svgs["hardware"] = accuracy_under_defects(tables.hardware)
    if len(wiring):
        svgs["wiring"] = genes.wiring_against_analytic(wiring)
    if len(searched := shape[shape["searched"]]):
        svgs["genes"] = genes.genes_in_their_ranges(searched)
    return svgs | genes.evolve_figures(tables.candidates, params)


def table_values(tables: Tables, class_names: Sequence[str]) -> dict[str, Any]:
    """The values that the page's tables and sentences take from the stages' tables."""
    layers = tables.layers.fillna({"decode_energy_mj": 0.0})
    search, rescored = searched_rows(tables.candidates), rescored_table(tables.candidates)
    failed = search.loc[search["status"] != "ok", "status"]
    many, by_class = len(class_names) > measurements.WITH_NUMBERS, recognised(tables.confusion, class_names)
    by_r = tables.noise.groupby("r")["accuracy"].agg(["mean", "min", "max", "count"])
    return {
        "rescored": rescored,
        "again": next((row for row in rescored if row["won"]), None),
        "n_failed": len(failed),
        "failures": failed.value_counts().head(5).to_dict(),
        "history": tables.history.iloc[-1].to_dict(),
        "layers": layers.to_dict("records"),
        "energy_unit": energy_unit((layers["energy_mj"] + layers["decode_energy_mj"]).max()),
        "noise": by_r.reset_index().to_dict("records"),
        "hardware": defect_table(tables.hardware),
        "confusions": confusions(tables.confusion, class_names, 10 if many else 5),
        "recognised": by_class if many else [],
        "balanced_accuracy": fmean(row["share"] for row in by_class) if by_class else None,
    }


def as_yaml(params: Params) -> str:
    """All parameters as params.yaml would hold them."""
    text, yaml = io.StringIO(), YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel declares it as None
    yaml.dump(params.model_dump(), text)
    return text.getvalue()

"""Stage report: presents what the other stages measured → reports/index.html, a self-contained page, and summary.json."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pandas as pd
from ruamel.yaml import YAML

from gee_core.config import Params
from gee_core.config.evolve import SWITCHES
from gee_core.config.known_networks import encoded_channels, is_own
from gee_core.data.meta import Meta, load_meta
from gee_core.evaluation.activity import energy_unit
from gee_core.storage.atomic_files import write_atomically
from pipelines.figures import genes, measurements
from pipelines.figures.candidates import searched_rows, start_of_search
from pipelines.figures.hardware_defects import accuracy_under_defects, defect_table
from pipelines.figures.svg import pictures
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.inputs.remedies import PREPARE, remedy
from pipelines.inputs.start_genotype import analytic_start
from pipelines.project.git import git_commit
from pipelines.project.paths import MODELS, PAGE, PREPARED, REPORTS, SUMMARY
from pipelines.reporting.mistakes import confusions, recognised
from pipelines.reporting.page import MLFLOW, TITLES, environment, read_hardware, read_tables, unescaped
from pipelines.reporting.paper import PUBLISHED_ON, paper_rows
from pipelines.reporting.result import RESULT, result_id, track_result
from pipelines.reporting.summary import Measured, build_summary, nir, read_measured, reading
from pipelines.reporting.wiring import rescored_table, shape_table, wiring_table
from pipelines.runtime.process_tree import leave
from pipelines.stage import stage


def run(params: Params, reports: Path, models: Path, prepared: Path) -> tuple[dict, str, Meta]:
    """Write the summary and the page under ``reports``, from the files in the three folders.

    Returns the summary, its `result_id`, and what the images are.

    Raises:
        InputError: a stage's file is missing, damaged or does not fit the others.
    """
    measured = read_measured(reports)
    summary = build_summary(params, measured, git_commit(reports.parent))
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    result = result_id(text.encode())
    with remedy(PREPARE):
        meta = load_meta(prepared)
    page = render(params, measured, summary, result, meta, reports, models)
    write_atomically(reports / SUMMARY.name, text)
    write_atomically(reports / PAGE.name, page.encode("utf-8", "replace"))
    return summary, result, meta


def render(params: Params, measured: Measured, summary: dict, result: str, meta: Meta, reports: Path, models: Path) -> str:
    """The page as HTML, with a link to the run in MLflow that is tagged with ``result``."""
    with reading(path := models / "evolve/genotype.json", "a genotype"):
        genotype = GenotypeFile.read(path)
    tables = read_tables(reports) | {"hardware": read_hardware(reports)}
    channels = encoded_channels(params.network.name, params.network.width)
    analytic = None if params.network.n_genes is None else analytic_start(params)
    wiring = wiring_table(genotype.genotype, analytic, tables["layers"])
    searched = params.searched_genes() if params.evolve.searches else ()
    shape = shape_table(genotype.shape, start_of_search(tables["candidates"]), searched)
    values = table_values(tables, meta.class_names)
    svgs = draw(params, tables, wiring, shape, meta.class_names, measured.robustness["clean_accuracy"])
    template = environment().get_template("report.html")
    return template.render(
        params=params,
        own=is_own(params.network.name),
        params_yaml=as_yaml(params),
        s=summary,
        meta=meta,
        dataset=TITLES.get(summary["dataset"], summary["dataset"]),
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
        hardware_left_out=measured.robustness.get("hardware_left_out", {}),
        svg=unescaped(svgs),
        **values,
    )


def draw(
    params: Params,
    tables: dict,
    wiring: pd.DataFrame,
    shape: pd.DataFrame,
    class_names: Sequence[str],
    clean_accuracy: float,
) -> dict[str, str]:
    """The figures for which the tables have data, as SVG text."""
    svgs = {
        "training": measurements.training_curve(tables["history"]),
        "energy": measurements.energy_per_layer(tables["layers"]),
        "noise": measurements.accuracy_over_noise(tables["noise"], clean_accuracy),
        "confusion": measurements.confusion_matrix(tables["confusion"], class_names),
    }
    if len(tables["hardware"]):
        svgs["hardware"] = accuracy_under_defects(tables["hardware"])
    if len(wiring):
        svgs["wiring"] = genes.wiring_against_analytic(wiring)
    if len(searched := shape[shape["searched"]]):
        svgs["genes"] = genes.genes_in_their_ranges(searched)
    return svgs | genes.evolve_figures(tables["candidates"], params)


def table_values(tables: dict, class_names: Sequence[str]) -> dict:
    """The values that the page's tables and sentences take from the stages' tables."""
    candidates, layers = tables["candidates"], tables["layers"].fillna({"decode_energy_mj": 0.0})
    search, rescored = searched_rows(candidates), rescored_table(candidates)
    failed = search.loc[search["status"] != "ok", "status"]
    many, by_class = len(class_names) > measurements.WITH_NUMBERS, recognised(tables["confusion"], class_names)
    by_r = tables["noise"].groupby("r")["accuracy"].agg(["mean", "min", "max", "count"])
    return {
        "rescored": rescored,
        "again": next((row for row in rescored if row["won"]), None),
        "n_failed": len(failed),
        "failures": failed.value_counts().head(5).to_dict(),
        "history": tables["history"].iloc[-1].to_dict(),
        "layers": layers.to_dict("records"),
        "energy_unit": energy_unit((layers["energy_mj"] + layers["decode_energy_mj"]).max()),
        "noise": by_r.reset_index().to_dict("records"),
        "hardware": defect_table(tables["hardware"]),
        "confusions": confusions(tables["confusion"], class_names, 10 if many else 5),
        "recognised": by_class if many else [],
        "balanced_accuracy": fmean(row["share"] for row in by_class) if by_class else None,
    }


def as_yaml(params: Params) -> str:
    """All parameters as params.yaml would hold them."""
    text, yaml = io.StringIO(), YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.dump(params.model_dump(), text)
    return text.getvalue()


def main() -> None:
    with stage("report") as s, TemporaryDirectory() as folder:
        with pictures(Path(folder)) as drawn:
            summary, result, meta = run(s.params, REPORTS, MODELS, PREPARED)
        for context in ("training", "testing"):  # on the run of the pipeline also where the stages that used them were skipped
            s.track.dataset(meta, context)
        track_result(s.track, summary, result, PAGE, SUMMARY, drawn)


if __name__ == "__main__":
    main()
    leave()

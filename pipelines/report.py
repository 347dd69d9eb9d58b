"""Stage report: presents what the other stages measured → reports/index.html, a self-contained page, and summary.json."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from gee_core.config import Params
from gee_core.data.meta import Meta, load_meta
from gee_core.storage.atomic_files import write_atomically
from pipelines.figures.svg import pictures
from pipelines.inputs.genotype_file import load_genotype
from pipelines.inputs.measured import read_measured
from pipelines.inputs.remedies import PREPARE, remedy
from pipelines.project.git import git_commit
from pipelines.project.paths import MODELS, PAGE, PREPARED, REPORTS, SUMMARY
from pipelines.reporting.page import render
from pipelines.reporting.summary import RESULT, Summary, build_summary, result_id, summary_markdown
from pipelines.reporting.tables import read_tables
from pipelines.runtime.process_tree import leave
from pipelines.stage import stage
from pipelines.tracking.experiment_page import RUN_ID

FIGURES = "figures"
"""Folder of the figures among the artifacts of the run in MLflow."""

SHOWN = ("front_of_candidates.png", "training_curve.png", "accuracy_over_noise.png")
"""The figures that stand in the note of the run."""


def run(params: Params, reports: Path, models: Path, prepared: Path) -> tuple[Summary, str, Meta]:
    """Write the summary and the page under ``reports``, from the files in the three folders.

    Returns the summary, its `result_id`, and what the images are.
    """
    measured = read_measured(reports)
    genotype = load_genotype(params, models / "evolve/genotype.json")
    summary = build_summary(params.with_genes(genotype.genes), measured, git_commit(reports.parent))
    text = json.dumps(summary.values(), indent=2, allow_nan=False) + "\n"
    result = result_id(text.encode())
    with remedy(PREPARE):
        meta = load_meta(prepared)
        tables = read_tables(reports, models)
    page = render(params, measured, summary, result, meta, genotype, tables)
    write_atomically(reports / SUMMARY.name, text)
    write_atomically(reports / PAGE.name, page.encode("utf-8", "replace"))
    return summary, result, meta


def note(summary: Summary, names: list[str]) -> str:
    """The note of the run in MLflow as Markdown: the summary as a table, and the figures of SHOWN that are in ``names``."""
    images = [f"![{name}](get-artifact?path={FIGURES}/{name}&run_uuid={RUN_ID})" for name in SHOWN if name in names]
    return "\n".join(
        [summary_markdown(summary), "", *images, "", "The report with all figures is among the artifacts: `index.html`."]
    )


def main() -> None:
    with stage("report") as s, TemporaryDirectory() as folder:
        with pictures(Path(folder)) as drawn:
            summary, result, meta = run(s.params, REPORTS, MODELS, PREPARED)
        for context in ("training", "testing"):  # on the run of the pipeline also where the stages that used them were skipped
            s.track.dataset(meta, context)
        files = {PAGE: "", SUMMARY: ""} | dict.fromkeys(drawn, FIGURES)
        s.track.result(summary.numbers(), {RESULT: result}, note(summary, [path.name for path in drawn]), files)


if __name__ == "__main__":
    main()
    leave()

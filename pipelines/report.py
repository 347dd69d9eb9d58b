"""Stage report: the measurements of the other stages → reports/index.html, a self-contained page, and summary.json."""

import json
from pathlib import Path

from gee_core.config import Params
from gee_core.data.meta import Meta, load_meta
from gee_core.storage.atomic_files import write_atomically
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
from pipelines.tracking.tags import NOTE


def run(params: Params, reports: Path, models: Path, prepared: Path) -> tuple[Summary, str, Meta]:
    """Write the summary and the page under ``reports``, from the files in the three folders.

    Returns the summary, its `result_id`, and the description of the images.
    """
    measured = read_measured(reports)
    genotype = load_genotype(params, models / "evolve/genotype.json")
    with remedy(PREPARE):
        meta = load_meta(prepared)
        tables = read_tables(reports, models)
    summary = build_summary(params.with_genes(genotype.genes), measured, meta.n_test, git_commit(reports.parent))
    text = json.dumps(summary.values(), indent=2, allow_nan=False) + "\n"
    result = result_id(text.encode())
    page = render(params, measured, summary, result, meta, genotype, tables)
    write_atomically(reports / SUMMARY.name, text)
    write_atomically(reports / PAGE.name, page.encode("utf-8", "replace"))
    return summary, result, meta


def main() -> None:
    with stage("report") as s:
        summary, result, meta = run(s.params, REPORTS, MODELS, PREPARED)
        for context in ("training", "testing"):  # on the run of the pipeline also where the stages that used them were skipped
            s.track.dataset(meta, context)
        note = f"{summary_markdown(summary)}\n\nThe report with all figures is among the artifacts: `index.html`."
        s.track.metrics(summary.numbers(), shared=True)
        s.track.tags({RESULT: result, NOTE: note}, shared=True)
        for path in (PAGE, SUMMARY):
            s.track.artifact(path, shared=True)


if __name__ == "__main__":
    main()
    leave()

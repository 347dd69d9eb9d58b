"""Stage report: the measurements of the other stages → reports/index.html, a self-contained page, and summary.json."""

from pathlib import Path

from gee_core.config import Params
from gee_core.data.meta import Meta, load_meta
from gee_core.storage.atomic_files import write_atomically
from pipelines.inputs.genotype_file import load_genotype
from pipelines.inputs.measured import read_measured
from pipelines.project.git import git_commit
from pipelines.project.paths import MODELS, PAGE, PREPARED, REPORTS, SUMMARY
from pipelines.reporting.page import read_tables, render
from pipelines.reporting.summary import Summary, build_summary
from pipelines.reporting.verdict import track_result
from pipelines.runtime.input_errors import PREPARE, remedy
from pipelines.stage import stage
from pipelines.tracking.pipeline_run import describe_datasets


def run(params: Params, reports: Path, models: Path, prepared: Path) -> tuple[Summary, Meta]:
    """Write the summary and the page under ``reports``, from the files in the three folders.

    Returns the summary, and the description of the images.
    """
    measured = read_measured(reports)
    genotype = load_genotype(params, models / "evolve/genotype.json")
    with remedy(PREPARE):
        meta = load_meta(prepared)
        tables = read_tables(reports, meta.class_names)
    summary = build_summary(params.with_genes(genotype.genes), measured, meta.n_test, git_commit(reports.parent))
    page = render(params, measured, summary, meta, genotype, tables)
    write_atomically(reports / SUMMARY.name, summary.text())
    write_atomically(reports / PAGE.name, page.encode("utf-8", "replace"))
    return summary, meta


def main() -> None:
    with stage("report") as s:
        summary, meta = run(s.params, REPORTS, MODELS, PREPARED)
        # on the run of the pipeline also where the stages that used them were skipped
        s.run.note(datasets=describe_datasets(meta, "training", "testing"))
        track_result(summary, s.above)
        for path in (PAGE, SUMMARY):
            s.above.artifact(path)


if __name__ == "__main__":
    main()

"""What the stage report notes for MLflow."""

from gee_core.data.meta import load_meta
from pipelines import report
from pipelines.reporting.summary import read_summary, result_id
from pipelines.runtime.run_files import UPLOAD, all_records
from pipelines.runtime.run_folder import runs_root
from pipelines.tracking import publish
from pipelines.tracking.tags import NOTE
from tests.pipelines.conftest import ROOT

SUMMARY = read_summary(ROOT / "reports/summary.json")


def test_the_stage_notes_numbers_a_tag_page_summary_and_both_data_sets(in_project, monkeypatch):
    folder = in_project()

    def run(params, reports, models, prepared):
        (folder / "reports").mkdir()
        (folder / "reports/index.html").write_text("<html>")
        (folder / "reports/summary.json").write_text("{}")
        return SUMMARY, load_meta(prepared)

    monkeypatch.setattr(report, "run", run)
    monkeypatch.setenv("GEE_TRACKING", "on")
    monkeypatch.setattr(publish, "start", lambda owner: None)
    monkeypatch.setattr(publish, "wait", lambda run: (None, []))
    report.main()
    (path, pipeline), (_, stage) = all_records(runs_root()).items()
    files = {name: (path / UPLOAD / name).read_text() for name in ("index.html", "summary.json")}
    assert files == {"index.html": "<html>", "summary.json": "{}"}
    _, _, title, line, accuracy = pipeline.tags[NOTE].replace("\N{NO-BREAK SPACE}", " ").splitlines()[:5]
    assert title.startswith("| cifarnet × ") and line == "|---|---|"
    assert accuracy == f"| test accuracy | {100 * SUMMARY.test_accuracy:.2f} % |"
    assert pipeline.tags["gee.result"] == result_id(SUMMARY)
    assert pipeline.metrics["test_accuracy"] == SUMMARY.test_accuracy
    assert {"width", "n_genes", "seed", "dataset"}.isdisjoint(pipeline.metrics)
    assert {context: values["name"] for context, values in stage.datasets.items()} == {
        "training": "digits",
        "testing": "digits",
    }

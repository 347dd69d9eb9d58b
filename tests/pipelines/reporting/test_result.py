"""What the stage report tells MLflow."""

from types import SimpleNamespace

from gee_core.data.meta import load_meta
from pipelines import report
from pipelines.reporting.summary import read_summary
from tests.pipelines.conftest import ROOT

SUMMARY = read_summary(ROOT / "reports/summary.json")


def test_the_stage_tracks_numbers_a_tag_page_summary_and_both_data_sets(in_project, monkeypatch):
    folder, data, found = in_project(), [], []

    def run(params, reports, models, prepared):
        (folder / "reports").mkdir()
        (folder / "reports/index.html").write_text("<html>")
        (folder / "reports/summary.json").write_text("{}")
        return SUMMARY, "abc123", load_meta(prepared)

    def result(metrics, tags, note, files):
        found.append((metrics, tags, note, {path.name: path.read_text() for path in files}))

    track = SimpleNamespace(result=result, close=lambda *_: None, dataset=lambda meta, use: data.append((meta.dataset, use)))
    monkeypatch.setattr(report, "run", run)
    monkeypatch.setattr("pipelines.stage.open_tracker", lambda name, params: track)
    report.main()
    ((metrics, tags, note, files),) = found
    assert files == {"index.html": "<html>", "summary.json": "{}"}
    title, line, accuracy = note.replace("\N{NO-BREAK SPACE}", " ").splitlines()[:3]
    assert title.startswith("| cifarnet × ") and line == "|---|---|"
    assert accuracy == f"| test accuracy | {100 * SUMMARY.test_accuracy:.2f} % |"
    assert tags == {"gee.result": "abc123"} and metrics["test_accuracy"] == SUMMARY.test_accuracy
    assert {"width", "n_genes", "seed", "dataset"}.isdisjoint(metrics)
    assert data == [("digits", "training"), ("digits", "testing")]  # no other stage need have run

"""What the stage report tells MLflow."""

from unittest.mock import Mock

from gee_core.data.meta import load_meta
from pipelines import report
from pipelines.reporting.summary import read_summary, result_id
from pipelines.tracking.tags import NOTE
from tests.pipelines.conftest import ROOT

SUMMARY = read_summary(ROOT / "reports/summary.json")


def test_the_stage_tracks_numbers_a_tag_page_summary_and_both_data_sets(in_project, monkeypatch):
    folder, track = in_project(), Mock()
    data, files = [], {}
    track.dataset = lambda meta, context: data.append((meta.dataset, context))
    track.artifact = lambda path, shared: files.update({path.name: (path.read_text(), shared)})

    def run(params, reports, models, prepared):
        (folder / "reports").mkdir()
        (folder / "reports/index.html").write_text("<html>")
        (folder / "reports/summary.json").write_text("{}")
        return SUMMARY, load_meta(prepared)

    monkeypatch.setattr(report, "run", run)
    monkeypatch.setattr("pipelines.stage.open_tracker", lambda name, params: track)
    report.main()
    assert files == {"index.html": ("<html>", True), "summary.json": ("{}", True)}
    (tags,) = track.tags.call_args.args
    _, _, title, line, accuracy = tags.pop(NOTE).replace("\N{NO-BREAK SPACE}", " ").splitlines()[:5]
    assert title.startswith("| cifarnet × ") and line == "|---|---|"
    assert accuracy == f"| test accuracy | {100 * SUMMARY.test_accuracy:.2f} % |"
    (metrics,) = track.metrics.call_args.args
    assert tags == {"gee.result": result_id(SUMMARY)} and metrics["test_accuracy"] == SUMMARY.test_accuracy
    assert track.tags.call_args.kwargs == track.metrics.call_args.kwargs == {"shared": True}
    assert {"width", "n_genes", "seed", "dataset"}.isdisjoint(metrics)
    assert data == [("digits", "training"), ("digits", "testing")]  # no other stage need have run

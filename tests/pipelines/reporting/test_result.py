import json

import pandas as pd

from gee_core.data.meta import load_meta
from pipelines import report
from pipelines.figures.measurements import training_curve
from pipelines.project.paths import MODELS, PREPARED, REPORTS
from pipelines.reporting.result import note, track_result
from pipelines.reporting.summary import read_summary
from tests.pipelines.conftest import ROOT

SUMMARY = read_summary(ROOT / "reports/summary.json")


class Tracked:
    """A tracker that keeps the result that it is told, and what its files held then."""

    def __init__(self):
        self.data = []

    def dataset(self, meta, context):
        self.data.append((meta.dataset, context))

    def result(self, metrics, tags, note, files):
        self.metrics, self.tags, self.note = metrics, tags, note
        self.files = {f"{folder}/{path.name}": path.read_bytes() for path, folder in files.items()}

    def close(self, status="FINISHED", error=""):
        pass


def test_the_note_is_a_table_with_units_and_shows_pictures_of_its_own_run():
    text = note(SUMMARY, ["training_curve.png", "components.png"]).replace("\N{NO-BREAK SPACE}", " ")
    title, line, accuracy = text.splitlines()[:3]
    assert title.startswith("| cifarnet × ") and line == "|---|---|"
    assert accuracy == f"| test accuracy | {100 * SUMMARY.test_accuracy:.2f} % |"
    assert "![training_curve.png](get-artifact?path=figures/training_curve.png&run_uuid={run_id})" in text
    assert "components.png" not in text and "accuracy_over_noise" not in text


def test_the_result_has_the_numbers_and_a_tag_by_which_the_report_finds_its_run(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY.values()))
    (tmp_path / "index.html").write_text("<html>")
    tracked = Tracked()
    track_result(tracked, SUMMARY, "abc123", tmp_path / "index.html", tmp_path / "summary.json", [])
    assert tracked.tags == {"gee.result": "abc123"}
    assert tracked.metrics["test_accuracy"] == SUMMARY.test_accuracy
    assert {"width", "n_genes", "seed", "dataset"}.isdisjoint(tracked.metrics)
    assert tracked.files == {"/summary.json": (tmp_path / "summary.json").read_bytes(), "/index.html": b"<html>"}


def test_the_stage_tracks_page_summary_pictures_and_both_data_sets(in_project, monkeypatch):
    folder, tracked = in_project(), Tracked()

    def run(params, reports, models, prepared):
        assert (reports, models, prepared) == (REPORTS, MODELS, PREPARED)
        training_curve(pd.DataFrame({"epoch": [0, 1], "train_accuracy": [0.5, 0.75], "train_loss": [1.5, 1.0]}))
        (folder / "reports").mkdir()
        (folder / "reports/index.html").write_text("<html>")
        (folder / "reports/summary.json").write_text("{}")
        return SUMMARY, "abc123", load_meta(prepared)

    monkeypatch.setattr(report, "run", run)
    monkeypatch.setattr("pipelines.stage.open_tracker", lambda name, params: tracked)
    report.main()
    assert set(tracked.files) == {"/index.html", "/summary.json", "figures/training_curve.png"}
    assert tracked.tags == {"gee.result": "abc123"}
    assert tracked.data == [("digits", "training"), ("digits", "testing")]  # no other stage need have run

"""What the stage report tells MLflow."""

from types import SimpleNamespace

import pandas as pd

from gee_core.data.meta import load_meta
from pipelines import report
from pipelines.figures.measurements import training_curve
from pipelines.reporting.summary import read_summary
from tests.pipelines.conftest import ROOT

SUMMARY = read_summary(ROOT / "reports/summary.json")


def test_the_note_is_a_table_with_units_and_shows_pictures_of_its_own_run():
    text = report.note(SUMMARY, ["training_curve.png", "wiring.png"]).replace("\N{NO-BREAK SPACE}", " ")
    title, line, accuracy = text.splitlines()[:3]
    assert title.startswith("| cifarnet × ") and line == "|---|---|"
    assert accuracy == f"| test accuracy | {100 * SUMMARY.test_accuracy:.2f} % |"
    assert "![training_curve.png](get-artifact?path=figures/training_curve.png&run_uuid={run_id})" in text
    assert "wiring.png" not in text and "accuracy_over_noise" not in text


def test_the_stage_tracks_numbers_a_tag_page_summary_pictures_and_both_data_sets(in_project, monkeypatch):
    folder, data, found = in_project(), [], []

    def run(params, reports, models, prepared):
        training_curve(pd.DataFrame({"epoch": [0, 1], "train_accuracy": [0.5, 0.75], "train_loss": [1.5, 1.0]}))
        (folder / "reports").mkdir()
        (folder / "reports/index.html").write_text("<html>")
        (folder / "reports/summary.json").write_text("{}")
        return SUMMARY, "abc123", load_meta(prepared)

    def result(metrics, tags, note, files):
        found.append((metrics, tags, {f"{folder}/{path.name}": path.read_bytes() for path, folder in files.items()}))

    track = SimpleNamespace(result=result, close=lambda *_: None, dataset=lambda meta, use: data.append((meta.dataset, use)))
    monkeypatch.setattr(report, "run", run)
    monkeypatch.setattr("pipelines.stage.open_tracker", lambda name, params: track)
    report.main()
    ((metrics, tags, files),) = found
    assert set(files) == {"/index.html", "/summary.json", "figures/training_curve.png"} and files["/index.html"] == b"<html>"
    assert tags == {"gee.result": "abc123"} and metrics["test_accuracy"] == SUMMARY.test_accuracy
    assert {"width", "n_genes", "seed", "dataset"}.isdisjoint(metrics)
    assert data == [("digits", "training"), ("digits", "testing")]  # no other stage need have run

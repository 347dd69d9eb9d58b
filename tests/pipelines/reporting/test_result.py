import json

import pandas as pd

from gee_core.data.meta import load_meta
from pipelines import report
from pipelines.figures.measurements import training_curve
from pipelines.figures.svg import pictures
from pipelines.project.paths import MODELS, PREPARED, REPORTS
from pipelines.reporting.result import note, track_result

SUMMARY = {
    "dataset": "digits",
    "network": "cifarnet",
    "width": 0.125,
    "n_genes": 28,
    "variant": "ste",
    "seed": 0,
    "test_accuracy": 0.961,
    "parameters": 132410,
    "plain_parameters": 306730,
    "parameter_ratio": 0.4317,
    "energy_mj": 0.00134,
    "energy_with_decoding_mj": 0.0561,
    "energy_of_sums_mj": 0.0,
    "spikes_per_image": 4409.0,
    "firing_rate": 0.187,
    "noise_accuracy": None,
    "noise_domain": "normalised",
    "n_candidates": 18,
    "best_fitness": 1.385,
    "onnx_bytes": 1261831,
    "onnx_agreement": 1.0,
    "commit": None,
}


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


def test_a_figure_that_is_drawn_inside_is_a_picture_too_and_its_svg_is_the_same(tmp_path):
    history = pd.DataFrame({"epoch": [0, 1], "train_accuracy": [0.5, 0.75], "train_loss": [1.5, 1.0]})
    outside = training_curve(history)
    with pictures(tmp_path) as drawn:
        inside = training_curve(history)
    training_curve(history)
    assert inside == outside
    assert drawn == [tmp_path / "training_curve.png"]
    assert drawn[0].read_bytes().startswith(b"\x89PNG")
    with pictures(tmp_path / "missing") as drawn:
        assert training_curve(history) == outside
    assert drawn == []
    with pictures(tmp_path, alone=True) as drawn:
        assert training_curve(history) == ""
    assert drawn == [tmp_path / "training_curve.png"]


def test_the_note_is_a_table_with_units_and_shows_pictures_of_its_own_run():
    text = note(SUMMARY, ["training_curve.png", "components.png"]).replace("\N{NO-BREAK SPACE}", " ")
    assert text.splitlines()[:3] == [
        "| cifarnet × 0.125 on digits, 28 genes, ste, seed 0 | |",
        "|---|---|",
        "| test accuracy | 96.10 % |",
    ]
    assert "| energy per image | 1.34 µJ, 56.1 µJ with building W |" in text
    assert "![training_curve.png](get-artifact?path=figures/training_curve.png&run_uuid={run_id})" in text
    assert "components.png" not in text and "accuracy_over_noise" not in text


def test_the_result_has_the_numbers_and_a_tag_by_which_the_report_finds_its_run(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    (tmp_path / "index.html").write_text("<html>")
    tracked = Tracked()
    track_result(tracked, SUMMARY, "abc123", tmp_path / "index.html", tmp_path / "summary.json", [])
    content = (tmp_path / "summary.json").read_bytes()
    assert tracked.tags == {"gee.result": "abc123"}
    assert tracked.metrics["test_accuracy"] == 0.961 and tracked.metrics["parameters"] == 132410
    assert {"width", "n_genes", "seed", "dataset", "noise_accuracy"}.isdisjoint(tracked.metrics)
    assert tracked.files == {"/summary.json": content, "/index.html": b"<html>"}


def test_the_stage_tracks_page_summary_pictures_and_both_data_sets(in_project, monkeypatch):
    folder, tracked = in_project(), Tracked()

    def run(params, reports, models, prepared):
        assert (reports, models, prepared) == (REPORTS, MODELS, PREPARED)
        history = pd.DataFrame({"epoch": [0, 1], "train_accuracy": [0.5, 0.75], "train_loss": [1.5, 1.0]})
        training_curve(history)
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

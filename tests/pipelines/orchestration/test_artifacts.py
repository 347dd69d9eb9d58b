"""What a flow run shows, without a server: what would be sent is collected."""

from types import SimpleNamespace

import pytest

from pipelines.orchestration import artifacts
from pipelines.orchestration.artifacts import Watcher, publish, results_markdown

SUMMARY = {
    "dataset": "digits",
    "network": "cifarnet",
    "width": 0.125,
    "n_genes": 28,
    "variant": "ste",
    "seed": 0,
    "test_accuracy": 0.9443,
    "parameters": 132_410,
    "plain_parameters": 306_730,
    "parameter_ratio": 0.4317,
    "energy_mj": 0.00136,
    "energy_with_decoding_mj": 0.0561,
    "energy_of_sums_mj": 0.0,
    "spikes_per_image": 4592.0,
    "firing_rate": 0.195,
    "noise_accuracy": 0.8273,
    "noise_domain": "normalised",
    "n_candidates": 4,
    "best_fitness": 1.276,
    "onnx_bytes": 1_260_000,
    "onnx_agreement": 1.0,
    "commit": None,
}


@pytest.fixture
def sent(monkeypatch):
    """The lines of the log and the calls that would make artifacts."""
    found = SimpleNamespace(lines=[], errors=[], calls=[])

    def collect(name):
        def call(*arguments):
            found.calls.append((name, *arguments))
            return len(found.calls)

        return call

    for name in ("create_link_artifact", "create_markdown_artifact", "create_progress_artifact", "update_progress_artifact"):
        monkeypatch.setattr(artifacts, name, collect(name.split("_artifact")[0]))
    monkeypatch.setattr(
        artifacts, "get_run_logger", lambda: SimpleNamespace(info=found.lines.append, error=found.errors.append)
    )
    return found


def test_lines_are_logged_without_hints_and_move_the_progress(sent):
    watcher = Watcher()
    for line in (
        "evolve 1/4 30 % 0:20 left",
        "",
        "Running stage 'train':",
        "evolve 4/4 100 % in 0:40",
        "train 1/2 50 % 0:10 left",
    ):
        watcher(line)
    assert len(sent.lines) == 4
    assert sent.calls == [
        ("create_progress", 30.0, "gee-evolve", "evolve 1/4 30 % 0:20 left"),
        ("update_progress", 1, 100.0, "evolve 4/4 100 % in 0:40"),
        ("create_progress", 50.0, "gee-train", "train 1/2 50 % 0:10 left"),
    ]


def test_what_a_stage_or_dvc_says_of_an_error_is_logged_as_one(sent):
    errors = ["train: error: data/prepared: missing", "ERROR: failed to reproduce 'train'"]
    for line in (*errors, "train 1/2 50 % 0:10 left"):
        Watcher()(line)
    assert (sent.errors, len(sent.lines)) == (errors, 1)


def test_a_server_that_does_not_answer_stops_no_stage(sent, monkeypatch, caplog):
    def away(*_):
        raise ConnectionError("All connection attempts failed")

    monkeypatch.setattr(artifacts, "create_progress_artifact", away)
    monkeypatch.setattr(artifacts, "create_markdown_artifact", away)
    Watcher()("train 1/2 50 % 0:10 left")
    publish("table", None, None, "about")
    assert caplog.text.count("an artifact of the flow run is missing: ConnectionError") == 2


def test_the_table_has_the_summary_with_units_and_every_stage():
    table = results_markdown({"evolve": "cached", "train": "ran"}, SUMMARY)
    assert table.startswith("| cifarnet × 0.125 on digits, 28 genes, ste, seed 0 | |\n|---|---|\n| test accuracy | 94.43")
    assert "| energy per image | 1.36\N{NO-BREAK SPACE}µJ, " in table
    assert "| evolve | cached |\n| train | ran |" in table
    assert results_markdown({"train": "failed"}, None) == "| stage | outcome |\n|---|---|\n| train | failed |"


def test_links_are_made_for_what_there_is(sent, tmp_path):
    publish("table", tmp_path / "a b.html", "http://127.0.0.1:5000/#/experiments/1/runs/2", "about")
    publish("table", None, None, "about")
    made = [(call[0], call[1]) for call in sent.calls]
    table = ("create_markdown", "table")
    links = [("create_link", f"file://{tmp_path}/a%20b.html"), ("create_link", "http://127.0.0.1:5000/#/experiments/1/runs/2")]
    assert made == [table, *links, table]

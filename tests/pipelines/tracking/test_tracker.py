"""What a tracker leaves on disk, on a disk that is full, without git, and where tracking is off."""

from pathlib import Path

import psutil

from pipelines.project.params import load_params
from pipelines.tracking import drain as drains
from pipelines.tracking import tracker as module
from pipelines.tracking.outbox import Outbox
from pipelines.tracking.pipeline_run import origin_tags
from pipelines.tracking.tracker import Tracker, open_tracker
from tests.pipelines.tracking.conftest import KEYS, by_level
from tests.wait_until import wait_until

ROOT = Path(__file__).resolve().parents[3]


def test_a_full_disk_costs_one_warning_and_what_does_not_fit(client, folder, caplog, monkeypatch):
    tracker = Tracker("train", KEYS)
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "append", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
        tracker.metrics({"loss": 1.0})
        tracker.metrics({"loss": 1.0})
    tracker.metrics({"accuracy": 1.0})
    tracker.close()
    assert len(caplog.records) == 1 and "No space left on device" in caplog.text
    (run,) = by_level(client, "stage")
    assert ({name for name, *_ in run.points}, run.info.status) == ({"accuracy"}, "FINISHED")


def test_a_disk_that_stays_full_stops_no_stage(folder, caplog, monkeypatch):
    (folder / ".scratch").write_text("no folder")
    monkeypatch.setattr(drains, "start", lambda root: None)
    tracker = Tracker("train", KEYS)
    tracker.metrics({"loss": 1.0})
    tracker.close()
    assert len(caplog.records) == 1


def test_a_file_that_is_missing_is_told_and_one_that_changes_is_uploaded_as_it_was(client, folder, caplog):
    tracker = Tracker("train", KEYS)
    tracker.artifact(folder / "missing.csv")
    tracker.artifact(folder / "plot.svg", "plots")
    (folder / "plot.svg").write_text("later")
    tracker.close()
    (run,) = by_level(client, "stage")
    assert run.files == {"plots/plot.svg": "<svg/>"}
    assert "missing.csv" in caplog.text


def test_a_machine_without_git_tracks_all_but_the_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not [tag for tag in origin_tags(tmp_path) if "commit" in tag]


def test_tracking_can_be_turned_off(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEE_TRACKING", "off")
    tracker = open_tracker("train", load_params(ROOT / "params.yaml"))
    tracker.candidate({}, {}, "a", "ok", {}, (1.0, 2.0))
    tracker.winner(["a"], {"a": {"rank": 1}})
    tracker.continues(tmp_path)
    tracker.artifact(ROOT / "params.yaml")
    tracker.close()
    assert tracker.address is None and list(tmp_path.iterdir()) == []


def test_the_load_of_a_stage_is_a_numbered_curve_of_its_run_that_ends_with_it(client, folder, monkeypatch):
    monkeypatch.setattr(module, "LOAD_INTERVAL", 0.01)
    tracker = Tracker("train", KEYS)
    tracker.watch()
    entries = folder / ".scratch/tracking" / tracker._outbox.name / "entries.jsonl"
    wait_until(lambda: entries.read_text().count("cpu_utilization") >= 3)
    tracker.close()
    (run,) = by_level(client, "stage")
    for name, most in {"cpu_utilization_percentage": 100, "system_memory_usage_percentage": 100}.items():
        curve = sorted((step, value) for metric, step, _, value in run.points if metric == f"system/{name}")
        assert [step for step, _ in curve] == list(range(len(curve))) and len(curve) >= 3
        assert all(0 <= value <= most for _, value in curve)
    used = [value for name, _, _, value in run.points if name == "system/system_memory_usage_megabytes"]
    assert all(1 < value < psutil.virtual_memory().total / 1e6 for value in used)

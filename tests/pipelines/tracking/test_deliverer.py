"""The process that writes what the stages of a `gee run` track; but for the last tests, its work in the process of the test."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from pipelines.runtime.process_tree import is_gone, process_key
from pipelines.tracking.deliverer import DELIVERER, Deliverer, delivering, living_deliverer
from pipelines.tracking.delivery import limit
from pipelines.tracking.outbox import Outbox, outbox_root
from pipelines.tracking.replay import find_waiting
from pipelines.tracking.tracker import MlflowTracker
from tests.pipelines.tracking.conftest import ENTRIES, GONE, KEYS, PIPELINE, outboxes
from tests.wait_until import wait_until

ROOT = Path(__file__).resolve().parents[3]
OWN = process_key(psutil.Process())


@pytest.fixture
def named(client, monkeypatch):
    """Trackers leave the writing to a deliverer, which is this process."""
    monkeypatch.setenv(DELIVERER, OWN)


def deliver(grace: float = 600.0, status: str = "FINISHED") -> str | None:
    """Run a deliverer for what is there, of a `gee run` that ended in this ``status``; the address of the execution's run."""
    ended, deliverer = threading.Event(), Deliverer(outbox_root(), OWN)
    deliverer.status = status
    ended.set()
    return deliverer.run(ended, grace)


def test_a_stage_ends_without_a_call_and_the_deliverer_writes_what_the_stage_would_have_written(client, expected, named, stage):
    tracker = stage()
    assert client.calls == [] and tracker.address() is None
    deliver()
    assert client.state() == expected
    assert outboxes() == []


def test_entries_are_written_while_the_stage_works(client, named, folder):
    ended, tracker = threading.Event(), MlflowTracker("train", KEYS)
    deliverer = Deliverer(outbox_root(), OWN)
    thread = threading.Thread(target=deliverer.run, args=(ended,))
    thread.start()
    for step in range(3):
        tracker.metrics({"loss": 1.0}, step)
        wait_until(lambda step=step: any(("loss", step) == point[:2] for run in client.runs.values() for point in run.points))
    tracker.close()
    deliverer.status = "FINISHED"
    ended.set()
    thread.join(600)
    assert not thread.is_alive()
    assert {run.info.run_name: run.info.status for run in client.runs.values()} == {
        PIPELINE: "FINISHED",
        f"train · {PIPELINE}": "FINISHED",
    }


def test_the_stages_of_one_execution_are_written_in_their_order(client, named, folder):
    for name, status in (("evolve", "FINISHED"), ("train", "FAILED"), ("report", "FINISHED")):
        MlflowTracker(name, KEYS).close(status)
    deliver()
    (pipeline,) = [run for run in client.runs.values() if run.info.run_name == PIPELINE]
    stages = {tag: value for tag, value in pipeline.data.tags.items() if tag.startswith("stage.")}
    assert list(stages.items()) == [("stage.evolve", "ran"), ("stage.train", "failed"), ("stage.report", "ran")]
    assert pipeline.info.status == "FAILED"


def test_the_run_of_an_execution_gets_the_lock_that_dvc_has_written_after_the_last_stage(client, named, folder):
    MlflowTracker("evolve", KEYS).close()
    MlflowTracker("train", KEYS).close("FAILED")
    (folder / "dvc.lock").write_text("the last state")
    deliver()
    (pipeline,) = [run for run in client.runs.values() if run.info.run_name == PIPELINE]
    assert (pipeline.files["/dvc.lock"], pipeline.info.status) == ("the last state", "FAILED")
    assert outboxes() == []


@pytest.mark.parametrize("status", ["KILLED", "FAILED"])
def test_an_execution_that_ends_before_its_next_stage_tracks_anything_ends_as_gee_run_does(client, named, folder, status):
    MlflowTracker("train", KEYS).close()
    address = deliver(status=status)
    ends = {run.info.run_name: run.info.status for run in client.runs.values()}
    assert ends == {PIPELINE: status, f"train · {PIPELINE}": "FINISHED"}
    (run_id,) = [run_id for run_id, run in client.runs.items() if run.info.run_name == PIPELINE]
    assert address == f"http://tracking.example:5000/#/experiments/0/runs/{run_id}?workflowType=machine_learning"


@pytest.mark.parametrize(("error", "status"), [(None, "FINISHED"), (RuntimeError, "FAILED"), (SystemExit, "KILLED")])
def test_the_process_hears_how_gee_run_ended_and_answers_with_an_address(folder, monkeypatch, error, status):
    monkeypatch.setenv("GEE_TRACKING", "on")
    child = "import sys; print('a line of a library'); print('http://host/#/runs/' + sys.stdin.read())"
    monkeypatch.setattr("pipelines.tracking.deliverer.COMMAND", [sys.executable, "-c", child])
    with contextlib.suppress(RuntimeError, SystemExit), delivering() as delivered:
        if error:
            raise error
    assert delivered.address == f"http://host/#/runs/{status}"


def test_a_gee_run_that_is_gone_without_a_word_was_killed(folder):
    assert Deliverer(outbox_root(), OWN).status == "KILLED"


def test_a_stage_that_was_killed_is_ended_as_killed(client, named, stage, monkeypatch):
    monkeypatch.setattr("pipelines.tracking.tracker.process_key", lambda process: GONE.format(host=socket.gethostname()))
    stage()
    path = outboxes()[0] / "entries.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]) + '{"n": 4, "cut off')
    deliver()
    ends = {run.info.run_name: run.info.status for run in client.runs.values()}
    assert ends == {PIPELINE: "KILLED", f"evolve · {PIPELINE}": "KILLED", "cand0": "FINISHED"}
    assert outboxes() == []


def test_the_stage_takes_over_where_its_deliverer_has_died_in_the_middle(client, expected, named, stage, monkeypatch):
    close = MlflowTracker.close

    def close_after_the_deliverer_has_died(tracker, status="FINISHED"):
        deliver(grace=0.0)
        assert len(client.runs) == 5
        monkeypatch.setattr("pipelines.tracking.tracker.is_gone", lambda key: True)
        close(tracker, status)

    monkeypatch.setattr(MlflowTracker, "close", close_after_the_deliverer_has_died)
    stage()
    assert client.state() == expected
    assert outboxes() == []


def test_a_stage_whose_deliverer_is_gone_writes_by_itself(client, expected, stage, monkeypatch):
    monkeypatch.setenv(DELIVERER, GONE.format(host=socket.gethostname()))
    stage()
    assert client.state() == expected


def test_a_stage_that_cannot_write_to_disk_writes_to_mlflow_by_itself(client, expected, named, stage, folder):
    shutil.rmtree(folder / ".scratch")
    (folder / ".scratch").write_text("no folder")
    stage()
    assert client.state() == expected


def test_a_server_that_is_away_costs_one_warning_for_all_stages(client, named, stage, caplog, impatient):
    client.is_down = True
    stage(), stage()
    with caplog.at_level(logging.WARNING):
        deliver()
    (record,) = caplog.records
    assert f"{2 * ENTRIES + 2} entries are not written yet" in record.message and "no route" in record.message
    assert str(outbox_root()) in record.message and len(outboxes()) == 3


def test_what_others_track_is_left_alone(client, stage, monkeypatch, impatient):
    client.is_down = True
    stage()._delivery._thread.join(600)
    client.is_down = False
    monkeypatch.setenv(DELIVERER, process_key(psutil.Process().parent()))
    stage()
    client.calls.clear()
    deliver()
    assert client.calls == [] and len(outboxes()) == 2


def test_replay_leaves_alone_what_a_deliverer_is_writing(client, named, stage, monkeypatch):
    monkeypatch.setattr("pipelines.tracking.tracker.process_key", lambda process: GONE.format(host=socket.gethostname()))
    stage()
    (waiting,) = find_waiting(outbox_root())
    assert waiting.hindrance == "`gee run` is writing it"


def test_what_an_interrupted_run_has_left_is_written_by_the_next_one(client, expected, left, monkeypatch):
    folder = left()
    lines = (folder / "entries.jsonl").read_text().splitlines(keepends=True)
    (folder / "entries.jsonl").write_text("".join(lines[:-1]))  # it was killed at its end
    deliver()
    ended = [[name, "KILLED" if name.endswith(PIPELINE) else status] for name, status, *_ in expected]
    assert [run[:2] for run in client.state()] == ended
    assert outboxes() == []


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_what_is_left_gets_the_time_of_a_run_that_ends_so_where_no_stage_ran(client, left, monkeypatch, status):
    left()
    given = []
    monkeypatch.setattr("pipelines.tracking.deliverer.limit", lambda status: given.append(status) or limit(status))
    deliver(status=status)
    assert given == [status]
    assert outboxes() == []


@pytest.mark.parametrize("why", ["its experiment is another", "MLflow refused a part of it"])
def test_what_would_hold_up_or_fail_again_is_left_for_replay(client, left, monkeypatch, why):
    folder = left()
    if "refused" in why:
        Outbox(folder).note_refused({"n": 3}, "ValueError")
    else:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    deliver()
    assert client.calls == [] and outboxes() == [folder]


def test_replay_leaves_alone_what_a_later_run_has_taken(client, left, monkeypatch, impatient):
    left()
    client.is_down = True
    deliver()
    (waiting,) = find_waiting(outbox_root())
    assert waiting.hindrance == "`gee run` is writing it"
    monkeypatch.setattr("pipelines.tracking.replay.is_gone", lambda key: True)
    assert find_waiting(outbox_root())[0].hindrance is None


def test_without_tracking_no_process_is_started(folder, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    with delivering():
        assert living_deliverer() is None


def test_the_process_ignores_what_ends_its_stages_and_its_death_is_told(folder, monkeypatch, caplog):
    monkeypatch.setenv("GEE_TRACKING", "on")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with delivering():
        key = living_deliverer()
        pid = int(key.split("/")[1])
        (blocked,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigBlk")]
        MlflowTracker("train", KEYS)
        os.kill(pid, signal.SIGKILL)
    assert all(int(blocked.split()[1], 16) >> (number - 1) & 1 for number in (signal.SIGINT, signal.SIGTERM))
    assert "died: `gee track replay` writes what it left" in caplog.text
    assert living_deliverer() is None


def test_the_process_ends_when_gee_run_is_killed(folder):
    code = (
        "import os, time\n"
        "from pipelines.tracking.deliverer import DELIVERER, delivering\n"
        "with delivering():\n"
        "    print(os.environ[DELIVERER], flush=True)\n"
        "    time.sleep(600)\n"
    )
    env = os.environ | {"GEE_TRACKING": "on", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) as process:
        key = process.stdout.readline().strip()
        alive = not is_gone(key)
        process.kill()
    assert alive
    wait_until(lambda: is_gone(key))


@pytest.mark.slow
def test_the_process_writes_to_a_store_that_it_makes_while_the_stage_ends_at_once(folder, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("GEE_TRACKING", "on")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with delivering() as delivered:
        tracker = MlflowTracker("train", KEYS)
        tracker.metrics({"loss": 1.0}, step=0)
        tracker.close()
        assert tracker._delivery is None
        wait_until(lambda: outboxes() == [])  # at its end the process waits for a busy machine a minute, and no longer
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("gee").experiment_id])
    assert sorted((run.info.run_name, run.info.status) for run in runs) == [
        (PIPELINE, "FINISHED"),
        (f"train · {PIPELINE}", "FINISHED"),
    ]
    assert outboxes() == []
    (pipeline,) = [run for run in runs if run.info.run_name == PIPELINE]
    page = f"http://127.0.0.1:5000/#/experiments/{pipeline.info.experiment_id}/runs/{pipeline.info.run_id}"
    assert delivered.address == f"{page}?workflowType=machine_learning"

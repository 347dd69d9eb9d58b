"""What a drain writes to a server that fails, of stages that are at work, closed or killed, and who waits for it how long."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from gee_core.errors import InputError
from pipelines.runtime import journal
from pipelines.runtime.file_lock import file_lock
from pipelines.runtime.process_tree import is_gone, process_key
from pipelines.tracking import drain as drains
from pipelines.tracking.drain import Drain, State, alone, wait
from pipelines.tracking.entries import Log
from pipelines.tracking.outbox import Outbox, outbox_root
from pipelines.tracking.tracker import Tracker
from tests.pipelines.tracking.conftest import ENTRIES, KEYS, PIPELINE, by_level, drain, outboxes
from tests.wait_until import wait_until

ROOT = Path(__file__).resolve().parents[3]


def replay() -> list:
    return Drain(outbox_root()).run(follows=False)


def ends(client) -> dict:
    return {run.info.run_name: run.info.status for run in client.runs.values()}


def test_a_run_that_went_well_leaves_nothing_behind(client, stage):
    stage()
    statuses = {PIPELINE: "FINISHED", f"evolve · {PIPELINE}": "FINISHED", "cand0": "FINISHED", "cand1": "FINISHED"}
    assert ends(client) == statuses | {"cand2": "FAILED"}
    ranked = [{p[0]: p[3] for p in run.points if p[0] in ("rank", "final_fitness")} for run in by_level(client, "candidate")]
    assert ranked == [{"rank": 1, "final_fitness": 0.4}, {}, {}]
    assert outboxes() == []


SLOW = pytest.mark.slow
FAULTS = [("lose", "kept"), pytest.param("late", "kept", marks=SLOW), pytest.param("lose", "gone", marks=SLOW)]


@pytest.mark.parametrize(("fault", "notes"), FAULTS)
def test_whichever_call_fails_or_kills_a_drain_the_next_one_doubles_nothing(client, left, expected, fault, notes, tmp_path):
    outbox = left()
    shutil.copytree(outbox, tmp_path / "copy")
    drain()
    assert client.state() == expected
    for number in range(len(client.calls)):
        client.runs.clear(), client.experiments.clear(), client.calls.clear()
        shutil.copytree(tmp_path / "copy", outbox)
        setattr(client, fault, {number})
        Drain(outbox_root()).run()
        if notes == "gone":  # as if the power had failed: nothing of it was on disk yet
            (outbox / "written.json").unlink(missing_ok=True)
        drain()
        assert client.state() == expected, f"call {number} ({client.calls[number]})"
        assert outboxes() == []


def test_entries_are_written_while_the_stage_works_once_the_server_answers_and_the_drain_ends_after_it(
    client, folder, nobody_waits
):
    client.is_down = True
    tracker, root = Tracker("train", KEYS, name=PIPELINE), outbox_root()
    thread = threading.Thread(target=Drain(root).run)
    thread.start()
    wait_until(lambda: (state := State.read(root)) and "no route" in state.trouble)
    client.is_down = False
    for step in range(2):
        tracker.metrics({"loss": 1.0}, step)
        wait_until(lambda step=step: any(("loss", step) == point[:2] for run in client.runs.values() for point in run.points))
    tracker.close()
    thread.join(600)
    assert ends(client) == {PIPELINE: "FINISHED", f"train · {PIPELINE}": "FINISHED"}
    assert outboxes() == []


def test_a_stage_that_was_killed_is_ended_as_killed_at_the_time_of_its_last_entry(client, left):
    folder = left()
    lines = (folder / "entries.jsonl").read_text().splitlines(keepends=True)
    (folder / "entries.jsonl").write_text("".join(lines[:4]) + lines[4][:30])
    drain()
    assert ends(client) == {PIPELINE: "KILLED", f"evolve · {PIPELINE}": "KILLED", "cand0": "FINISHED"}
    (run,) = by_level(client, "stage")
    assert run.info.end_time == json.loads(lines[3])["time"]
    assert outboxes() == []


def test_the_stages_of_one_execution_are_written_in_their_order(client, folder, nobody_waits):
    for name, status in (("evolve", "FINISHED"), ("train", "FAILED"), ("report", "FINISHED")):
        Tracker(name, KEYS).close(status)
    drain()
    (pipeline,) = by_level(client, "pipeline")
    stages = {tag: value for tag, value in pipeline.data.tags.items() if tag.startswith("stage.")}
    assert list(stages.items()) == [("stage.evolve", "ran"), ("stage.train", "failed"), ("stage.report", "ran")]
    assert pipeline.info.status == "FAILED"


def test_a_stage_that_is_written_late_leaves_the_end_and_the_newer_files_of_its_execution(client, folder, monkeypatch):
    (folder / "dvc.lock").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.tracking.entries.time.time", lambda: 1.7e9)
        patch.setattr(drains, "wait", lambda *_: None)
        Tracker("prepare", KEYS).close()
    (late,) = outboxes()
    shutil.move(late, folder / "away")
    (folder / "dvc.lock").write_text("new")
    Tracker("evolve", KEYS).close()
    (pipeline,) = by_level(client, "pipeline")
    end = pipeline.info.end_time
    shutil.move(folder / "away", late)
    drain()
    assert (pipeline.info.end_time, pipeline.files["/dvc.lock"]) == (end, "new") and end >= pipeline.info.start_time
    assert {"stage.prepare", "stage.evolve"} < set(pipeline.data.tags)


def test_a_second_drain_ends_at_once_and_a_replay_waits_for_one_that_lingers(client, left, monkeypatch):
    left()
    monkeypatch.setattr(drains.os, "nice", lambda _: None)
    monkeypatch.setattr(drains, "LINGER", -2.0)
    with file_lock(outbox_root() / "drain.lock"):
        drains.main()
        with pytest.raises(InputError, match="another process is writing to MLflow"), alone(outbox_root()):
            pass
    assert client.calls == []
    with alone(outbox_root()):
        assert len(replay()) == 1


def test_what_is_written_has_the_times_at_which_it_was_tracked(client, left):
    times = {entry.kind: entry.time for entry, _ in Outbox(left()).entries()}
    drain()
    (run,) = by_level(client, "stage")
    assert (run.info.start_time, run.info.end_time) == (times["open"], times["close"])


def reopen(folder, **changes) -> None:
    """Rewrite the first entry of an outbox."""
    first, *rest = journal.read(folder / "entries.jsonl")
    (folder / "entries.jsonl").unlink()
    for entry in [first | changes, *rest]:
        journal.append(folder / "entries.jsonl", entry)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"process": "elsewhere/1/1"}, "its process is on elsewhere: replay it there"),
        ({"store": "http://other.example"}, "it is for http://other.example: set MLFLOW_TRACKING_URI to that"),
    ],
)
def test_an_outbox_of_another_machine_or_store_is_left_with_the_reason(client, left, changes, why):
    folder = left()
    reopen(folder, **changes)
    lines = (folder / "entries.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "entries.jsonl").write_bytes(b"".join(lines[:-1]))
    (found,) = replay()
    assert found.hindrance.startswith(why) and client.calls == [] and folder.is_dir()


def test_a_damaged_line_costs_its_entry_alone(client, left, expected):
    folder = left()
    lines = (folder / "entries.jsonl").read_bytes().splitlines(keepends=True)
    (number,) = [i for i, line in enumerate(lines) if b'"name": "cand2"' in line]
    lines[number] = lines[number].replace(b"cand2", b"dnac2")
    (folder / "entries.jsonl").write_bytes(b"".join(lines))
    drain()
    assert client.state() == [run for run in expected if run[0] != "cand2"]


def test_an_entry_that_mlflow_refuses_is_one_warning_and_left_out(client, folder, caplog):
    tracker = Tracker("train", KEYS)
    tracker.params({"lr": 1})
    tracker.params({"lr": 2})
    tracker.metrics({"loss": 1.0})
    tracker.close()
    (run,) = by_level(client, "stage")
    assert run.info.status == "FINISHED" and {point[0] for point in run.points} == {"loss"}
    said = "MLflow refuses an entry of train, which is left out: ValueError: a parameter cannot be changed"
    assert ([record.message for record in caplog.records], outboxes()) == ([said], [])


def test_an_outbox_that_cannot_be_opened_does_not_hold_up_the_next(client, left, monkeypatch):
    reopen(left(), experiment="deleted")
    client.do_create_experiment("deleted", None)
    client.experiments["deleted"].lifecycle_stage = "deleted"
    left()
    drain()
    assert len(by_level(client, "stage")) == 1 and len(outboxes()) == 1


def test_a_deleted_experiment_is_named_with_its_remedy_and_what_waits_is_written_once_it_is_restored(
    client, expected, left, main
):
    client.do_create_experiment("gee", None)
    client.experiments["gee"].lifecycle_stage = "deleted"
    left()
    said = "the experiment gee is deleted in MLflow: restore it with `mlflow experiments restore -x 0`, or set MLFLOW_EXP"
    code, out, _ = main("track", "replay")
    assert (code, client.runs) == (1, {}) and f"nothing; {ENTRIES} left: {said}" in out
    assert f"\n0 entries written to http://tracking.example:5000; {ENTRIES} are left, for the reasons above\n" in out
    client.experiments["gee"].lifecycle_stage = "active"
    replay()
    assert client.state() == expected


def test_the_commands_say_what_waits_what_was_written_and_that_a_server_is_away(client, left, main, expected):
    left()
    code, out, _ = main("track", "status")
    assert code == 0 and "evolve" in out and f"{ENTRIES} entries" in out and "`gee track replay` writes them" in out
    client.is_down = True
    code, out, _ = main("track", "replay")
    assert code == 1 and f"{ENTRIES} left: MLflow does not answer: ConnectionError: no route" in out
    client.is_down = False
    code, out, _ = main("track", "replay")
    kinds = "1 open, 1 dataset, 8 log, 3 child, 1 close"
    assert code == 0 and f"evolve {kinds}\n" in out and f"{ENTRIES} entries written to http://tracking.example:5000" in out
    assert main("track", "status")[1] == "MLflow has everything\n"
    assert client.state() == expected


@pytest.fixture
def outbox(tmp_path, monkeypatch) -> Outbox:
    """One with three entries, of which nobody writes any."""
    outbox = Outbox.new(tmp_path, "train")
    for step in range(3):
        outbox.append(Log(step=step))
    monkeypatch.setattr(drains, "start", lambda root: None)
    monkeypatch.setattr(drains, "INTERVAL", 0.001)
    monkeypatch.setattr(drains, "RETRY", 0.01)
    return outbox


def test_a_server_that_does_not_answer_is_not_waited_for_and_one_warning_says_what_is_left(outbox, caplog):
    root = outbox.folder.parent
    State(process=process_key(psutil.Process()), trouble="ConnectionError: no route").write(root)
    assert wait(outbox, "FINISHED") is None
    (record,) = caplog.records
    assert f"3 entries are not written yet (ConnectionError: no route); they wait in {root}: the next run" in record.message


@pytest.mark.parametrize(("status", "limit"), [("FINISHED", "LIMIT"), ("KILLED", "LIMIT_OF_KILLED")])
def test_a_server_that_answers_is_waited_for_until_the_limit(outbox, monkeypatch, status, limit):
    monkeypatch.setattr(drains, limit, 0.2)
    begin = time.monotonic()
    wait(outbox, status)
    assert 0.2 <= time.monotonic() - begin < 5


def test_the_address_is_told_once(outbox):
    page = outbox.folder.parent / f"{outbox.name}.address"
    page.write_text("http://host/#/runs/1")
    outbox.remove()
    assert wait(outbox, "FINISHED") == "http://host/#/runs/1"
    assert not page.exists()


@pytest.mark.slow
def test_a_drain_outlives_the_group_that_started_it_and_writes_what_a_killed_stage_left(folder, monkeypatch):
    from mlflow import MlflowClient

    code = (
        "import time\n"
        "from pipelines.tracking.tracker import Tracker\n"
        "Tracker('train', {'dataset': 'x'}).metrics({'loss': 1.0})\n"
        "print('tracked', flush=True)\n"
        "time.sleep(600)\n"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        process.stdout.readline()
        root = folder / ".scratch/tracking"
        wait_until(lambda: State.read(root))
        drain = State.read(root).process
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
    assert children == [] and not is_gone(drain)
    wait_until(lambda: not list(root.glob("*/")))
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("gee").experiment_id])
    assert [run.info.status for run in runs] == ["KILLED", "KILLED"]
    wait_until(lambda: is_gone(drain))

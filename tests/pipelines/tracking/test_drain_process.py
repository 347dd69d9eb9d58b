"""How long the end of a stage waits for the drain, and that a drain outlives what started it."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.runtime.process_tree import is_gone, process_key
from pipelines.tracking import drain_process
from pipelines.tracking.drain_process import State, wait
from pipelines.tracking.entries import Log
from pipelines.tracking.outbox import Outbox, Written
from tests.wait_until import wait_until

ROOT = Path(__file__).resolve().parents[3]
STORE = "http://tracking.example:5000"


@pytest.fixture
def outbox(tmp_path, monkeypatch) -> Outbox:
    """One with three entries, of which nobody writes any; a wait takes as many milliseconds as else seconds."""
    outbox = Outbox.new(tmp_path, "train")
    for step in range(3):
        outbox.append(Log(step=step))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", STORE)
    monkeypatch.setattr(drain_process, "start", lambda root: None)
    for name in ("INTERVAL", "LIMIT", "RETRY"):
        monkeypatch.setattr(drain_process, name, getattr(drain_process, name) / 1000)
    monkeypatch.setattr(drain_process, "LIMIT", 600.0)
    return outbox


def state(outbox: Outbox, store: str = STORE, **about) -> None:
    State(process=process_key(psutil.Process()), store=store, **about).write(outbox.folder.parent)


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"trouble": "ConnectionError: no route"}, "ConnectionError: no route"),
        ({"since": 1.0}, "it does not answer"),
        ({"store": "http://other.example"}, "a drain writes to http://other.example now"),
    ],
)
def test_a_server_that_does_not_answer_is_not_waited_for_and_one_warning_says_what_is_left(outbox, caplog, about, why):
    state(outbox, **about)
    with caplog.at_level(logging.WARNING):
        assert wait(outbox, "FINISHED", 0.01) is None
    (record,) = caplog.records
    assert f"3 entries are not written yet ({why}); they wait in {outbox.folder.parent}: the next run" in record.message


@pytest.mark.parametrize(
    ("status", "seconds", "about"),
    [("FINISHED", 20.0, {"trouble": "away"}), ("FINISHED", 0.0, {"since": 0.0}), ("KILLED", 0.0, {})],
    ids=["a hundredth of the run", "an upload", "a killed run"],
)
def test_what_may_still_be_written_is_waited_for(outbox, monkeypatch, status, seconds, about):
    """A long run waits longer for a server that is away; an upload may be slow; a killed run has PATIENCE."""
    state(outbox, **about)
    monkeypatch.setattr(drain_process, "LIMIT", 0.2)
    monkeypatch.setattr(drain_process, "PATIENCE", 0.2)
    begin = time.monotonic()
    wait(outbox, status, seconds)
    assert time.monotonic() - begin >= 0.2


def test_the_address_is_told_once_and_a_refused_entry_is_not_waited_for(outbox, caplog):
    outbox.note(Written(refused=1, reason="ValueError", position=10**6, closed=True))
    wait(outbox, "FINISHED", 0.0)
    assert "1 entries are not written yet (MLflow refuses them: ValueError)" in caplog.text
    page = outbox.folder.parent / f"{outbox.name}.address"
    page.write_text("http://host/#/runs/1")
    outbox.remove()
    assert wait(outbox, "FINISHED", 0.0) == "http://host/#/runs/1"
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

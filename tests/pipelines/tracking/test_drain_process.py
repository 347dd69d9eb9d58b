"""How long the end of a stage waits for the drain, and that a drain outlives what started it."""

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
from pipelines.tracking.outbox import Outbox
from tests.wait_until import wait_until

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def outbox(tmp_path, monkeypatch) -> Outbox:
    """One with three entries, of which nobody writes any."""
    outbox = Outbox.new(tmp_path, "train")
    for step in range(3):
        outbox.append(Log(step=step))
    monkeypatch.setattr(drain_process, "start", lambda root: None)
    monkeypatch.setattr(drain_process, "INTERVAL", 0.001)
    monkeypatch.setattr(drain_process, "RETRY", 0.01)
    return outbox


def test_a_server_that_does_not_answer_is_not_waited_for_and_one_warning_says_what_is_left(outbox, caplog):
    root = outbox.folder.parent
    State(process=process_key(psutil.Process()), trouble="ConnectionError: no route").write(root)
    assert wait(outbox, "FINISHED") is None
    (record,) = caplog.records
    assert f"3 entries are not written yet (ConnectionError: no route); they wait in {root}: the next run" in record.message


@pytest.mark.parametrize(("status", "limit"), [("FINISHED", "LIMIT"), ("KILLED", "LIMIT_OF_KILLED")])
def test_a_server_that_answers_is_waited_for_until_the_limit(outbox, monkeypatch, status, limit):
    monkeypatch.setattr(drain_process, limit, 0.2)
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

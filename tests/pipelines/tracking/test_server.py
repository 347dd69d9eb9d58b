"""Against a real `mlflow server`: killed and started again, with a drain that is killed, with two drains."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.tracking import DISTURBANCES, disturbed, project, replay
from pipelines.tracking import drain_process
from pipelines.tracking.tracker import Tracker

ROOT = Path(__file__).resolve().parents[3]
KILLED_AFTER_CREATE = """
import os, signal
from mlflow import MlflowClient
create_run, n = MlflowClient.create_run, [0]
def create_and_return(*args, **kwargs):
    made = create_run(*args, **kwargs)
    n[0] += 1
    if n[0] == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return made
MlflowClient.create_run = create_and_return
from pipelines.tracking.drain import main
main()
"""
"""A drain that is killed when MLflow has made a run, before it notes anything of that."""


@pytest.mark.slow
@pytest.mark.parametrize("how", DISTURBANCES)
def test_every_candidate_is_found_exactly_once_after_a_disturbance_and_a_replay(how):
    found = disturbed(30, 0.2, how)
    assert (found["missing"], found["doubled"]) == (0, 0)
    assert found["again"] == 0
    assert how != "away_to_the_end" or found["left"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 2, 4], ids=["the execution's run", "the stage's", "a candidate's"])
def test_a_drain_that_is_killed_between_a_new_run_and_its_note_makes_no_second_one(at, monkeypatch):
    with project() as server:
        server.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setattr(drain_process, "start", lambda root: None)
        monkeypatch.setattr(drain_process, "wait", lambda *_: None)
        tracker = Tracker("evolve", {"dataset": "x"})
        for name in ("a", "b", "c"):
            tracker.candidate({}, {"fitness": 0.5}, name, "ok", {}, (1.0, 2.0))
        tracker.close()
        drain = subprocess.run([sys.executable, "-c", KILLED_AFTER_CREATE.format(at=at)], env=dict(os.environ))
        assert drain.returncode == -signal.SIGKILL
        assert replay(server.uri) > 0
        found = server.runs()
    assert sorted(found.values()) == [1] * 5 and {"a", "b", "c"} < set(found)

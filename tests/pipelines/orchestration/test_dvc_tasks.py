import os
import sys
import threading
from pathlib import Path
from queue import Queue
from subprocess import CompletedProcess

import pytest

from pipelines.orchestration import dvc_tasks
from pipelines.orchestration.dvc_tasks import run_stage

SKIPPED = "Stage 'train' didn't change, skipping"
CACHED = "Stage 'train' is cached - skipping run, checking out outputs"


@pytest.mark.parametrize(("words", "name"), [("Running stage 'train':", None), (SKIPPED, "Skipped"), (CACHED, "Cached")])
def test_a_stage_that_did_not_run_has_a_state_that_says_so(words, name, monkeypatch):
    monkeypatch.setattr(dvc_tasks, "_dvc", lambda arguments, execution: (words, 0))
    state = run_stage.fn("train", "execution", force=False)
    assert state == "ran" if name is None else (state.name, state.is_completed(), state.data) == (name, True, name.lower())


def test_a_stage_that_failed_says_why_in_the_message_of_its_state(monkeypatch):
    output = "train: error: a.npy: missing\nERROR: failed to reproduce 'train'\n"
    monkeypatch.setattr(dvc_tasks, "_dvc", lambda arguments, execution: (output, 255))
    state = run_stage.fn("train", "execution", force=False)
    assert (state.is_failed(), state.data) == (True, output.strip())
    assert state.message == "stage train failed (exit code 255): train: error: a.npy: missing"


def test_python_of_dvc_yaml_is_this_one_also_where_its_environment_is_not_active(monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    given = {}
    monkeypatch.setattr(dvc_tasks, "Watcher", lambda: print)
    monkeypatch.setattr(dvc_tasks, "run_in_group", lambda command, **how: given.update(how) or CompletedProcess([], 0, "", ""))
    dvc_tasks._dvc(["repro"], "execution")
    assert given["env"]["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]


def test_mlflow_is_loaded_while_the_first_stage_works_so_that_a_stopped_flow_is_tracked_in_time(monkeypatch):
    loaded = Queue()
    monkeypatch.setenv("GEE_TRACKING", "on")
    monkeypatch.setattr(dvc_tasks, "ran", [])
    monkeypatch.setattr(dvc_tasks, "Watcher", lambda: print)
    monkeypatch.setattr("pipelines.tracking.mlflow_client.load", lambda: loaded.put(threading.current_thread().name))

    def run(command, on_line, **_):
        on_line("Stage 'check' didn't change, skipping")
        assert loaded.empty()
        on_line("Running stage 'prepare':")
        assert loaded.get() == "load-mlflow"
        on_line("Running stage 'train':")
        return CompletedProcess([], 0, "", "")

    monkeypatch.setattr(dvc_tasks, "run_in_group", run)
    dvc_tasks._dvc(["repro"], "execution")
    assert (dvc_tasks.ran, loaded.empty()) == (["prepare", "train"], True)

import os
import sys
from pathlib import Path
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

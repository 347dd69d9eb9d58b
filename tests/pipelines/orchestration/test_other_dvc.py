import json
import subprocess
import sys
from subprocess import CompletedProcess
from types import SimpleNamespace

import pytest

from pipelines.orchestration import dvc_tasks, other_dvc
from pipelines.orchestration.damaged_dvc_files import RWLOCK
from pipelines.orchestration.other_dvc import DVC_ERROR, wait_for_other_dvc


@pytest.fixture
def other(tmp_path, monkeypatch):
    """A `dvc repro` that reads a file of the project until its stdin is closed."""
    monkeypatch.setattr(other_dvc, "INTERVAL", 0.01)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        (tmp_path / RWLOCK).parent.mkdir(parents=True)
        (tmp_path / RWLOCK).write_text(json.dumps({"read": {"/a": [{"pid": process.pid, "cmd": "/dvc/__main__.py repro"}]}}))
        yield process


def test_whom_a_run_waits_for_is_said_once(other, tmp_path):
    heard = []

    def end(line: str) -> None:
        heard.append(line)
        other.communicate()

    assert wait_for_other_dvc(tmp_path, end)
    name = f"process {other.pid}, `dvc repro`"
    assert heard == [f"another run is at work in {tmp_path} ({name}); this one waits for its end"]
    assert not wait_for_other_dvc(tmp_path, heard.append)  # DVC leaves the entries of a killed process
    assert len(heard) == 1


@pytest.mark.parametrize("content", [None, "", "{}", '{"write": {"/a": {"pid": 1'])
def test_nobody_is_waited_for_where_no_dvc_is_at_work(content, tmp_path):
    if content is not None:
        (tmp_path / RWLOCK).parent.mkdir(parents=True)
        (tmp_path / RWLOCK).write_text(content)
    assert not wait_for_other_dvc(tmp_path, pytest.fail)


def test_a_task_whose_files_are_busy_waits_and_runs_again(other, tmp_path, monkeypatch):
    busy = CompletedProcess([], DVC_ERROR, "ERROR: failed to reproduce 'check': 'x' is busy, it is being blocked by:\n")
    results = [busy, CompletedProcess([], 0, "done")]
    monkeypatch.setattr(dvc_tasks, "run_in_group", lambda *_, **__: results.pop(0))
    monkeypatch.setattr(dvc_tasks, "find_project", lambda: tmp_path)
    monkeypatch.setattr(dvc_tasks, "Watcher", lambda: print)
    monkeypatch.setattr(dvc_tasks, "get_run_logger", lambda: SimpleNamespace(info=lambda line: other.communicate()))
    assert dvc_tasks._dvc(["repro"], "execution") == ("done", 0)
    assert results == []

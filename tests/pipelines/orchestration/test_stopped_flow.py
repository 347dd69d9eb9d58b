"""A flow that is killed or stopped."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pipelines.orchestration import flow
from pipelines.orchestration.flow import pipeline_flow, run_flow

ROOT = Path(__file__).resolve().parents[3]
LONG = """
import pathlib, time
from pipelines.runtime.process_tree import die_with_parent
die_with_parent(interval=0.1)
pathlib.Path("started").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.1)
pathlib.Path("a").touch()
"""


def test_a_flow_that_ctrl_c_stops_is_cancelled_and_no_crash(monkeypatch, project):
    def stopped(*_):
        raise KeyboardInterrupt

    here = SimpleNamespace(flow_run=SimpleNamespace(name="fox", id="1-2", run_count=1), info=print)
    for name in ("get_run_context", "get_run_logger"):
        monkeypatch.setattr(flow, name, lambda: here)
    for name in ("claim", "settle_abandoned"):
        monkeypatch.setattr(flow, name, lambda *_: None)
    monkeypatch.setattr(flow, "_run", stopped)
    state = pipeline_flow.fn()
    assert (state.type.value, state.message) == ("CANCELLED", "stopped by Ctrl-C")
    monkeypatch.setattr("pipelines.orchestration.temporary_server.outlive_signals", lambda: None)
    monkeypatch.setattr(flow, "pipeline_flow", lambda **_: state)
    with pytest.raises(KeyboardInterrupt):
        run_flow()


def flow_at_work(project: Path, **env: str) -> subprocess.Popen:
    """`gee flow run` in a process group of its own, whose one stage is at work."""
    (project / "long.py").write_text(LONG)
    (project / "dvc.yaml").write_text(f"stages: {{long: {{cmd: {sys.executable} long.py, outs: [a]}}}}")
    process = flow_process(project, **env)
    while not (project / "started").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    return process


def flow_process(project: Path, **env: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "flow", "run"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(project / ".prefect"), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def processes_of(project: Path) -> list[list[str]]:
    """Command lines of the processes that keep their state in the project, this one's children or not."""
    found = []
    for process in psutil.process_iter(["environ", "cmdline", "status"]):
        home = (process.info["environ"] or {}).get("PREFECT_HOME")
        if home == str(project / ".prefect") and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.info["cmdline"])
    return found


def states(project: Path, table: str) -> list[str]:
    with closing(sqlite3.connect(project / ".prefect/prefect.db")) as db:
        return sorted(state for (state,) in db.execute(f"select state_type from {table}"))


@pytest.mark.slow
def test_a_flow_that_is_killed_is_crashed_at_the_next_start_and_its_server_ends(project):
    killed = flow_at_work(project)
    killed.kill()
    killed.wait()
    killed.stdout.close()
    killed.stderr.close()
    assert any("uvicorn" in line for line in processes_of(project))
    assert states(project, "flow_run") == ["RUNNING"]
    (project / "go").touch()
    out, err = flow_process(project).communicate()
    assert out.startswith("long: ran"), err
    assert "is set to CRASHED: its process" in err
    assert states(project, "flow_run") == ["COMPLETED", "CRASHED"]
    assert "RUNNING" not in states(project, "task_run")
    assert processes_of(project) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "state", "told"), [(signal.SIGINT, 130, "CANCELLED", False), (signal.SIGTERM, 143, "CRASHED", True)]
)
def test_a_flow_whose_process_group_is_stopped_reports_that_and_ends_with_its_server(number, code, state, told, project):
    (project / "tell.sh").write_text(f"#!/bin/sh\ntouch {project}/told\n")
    stopped = flow_at_work(project, GEE_NOTIFY=f"sh {project}/tell.sh")
    os.killpg(stopped.pid, number)
    _, err = stopped.communicate()
    assert stopped.returncode == code, err
    assert "gee: interrupted; the same command continues where it stopped\n" in err
    assert "Traceback" not in err
    assert states(project, "flow_run") == [state]
    assert "RUNNING" not in states(project, "task_run")
    assert processes_of(project) == []
    assert (project / "told").exists() == told

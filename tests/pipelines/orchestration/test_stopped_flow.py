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
from prefect.states import Completed, Failed

from pipelines.orchestration import flow
from pipelines.orchestration.flow import pipeline_flow, run_flow
from pipelines.orchestration.request import Request

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


@pytest.fixture
def tracked(monkeypatch):
    """The outcomes and the status that flows of this process would send to MLflow."""
    found = []
    monkeypatch.setattr(flow, "_track", lambda params, results, status, is_experiment: found.append((results, status)))
    monkeypatch.setattr(flow, "kill_groups", lambda: None)
    return found


def test_what_became_of_the_stages_is_tracked_where_a_flow_is_stopped(monkeypatch, project, tracked):
    skipped, failed = Completed(name="Skipped", data="skipped"), Failed(message="stage other failed", data="its last lines")
    states = {"first": skipped, "second": None, "third": None, "other": failed}

    class Future:
        def __init__(self, stage, *_, wait_for):
            self.state = states[stage]

        def wait(self):
            assert self.state

    monkeypatch.setattr(flow, "run_stage", SimpleNamespace(submit=Future))

    def as_completed(futures):
        flow.ran.extend(["second", "other"])
        yield from (future for future in futures if future.state)
        raise KeyboardInterrupt

    monkeypatch.setattr(flow, "as_completed", as_completed)
    with pytest.raises(KeyboardInterrupt):
        flow._run(project, Request(), "name")
    assert tracked == [({"first": "skipped", "second": "killed", "third": "not run", "other": "failed"}, "KILLED")]


def test_so_are_those_of_an_experiment(monkeypatch, project, tracked):
    def wait():
        flow.ran.extend(["prepare", "evolve", "train"])
        raise KeyboardInterrupt

    monkeypatch.setattr(flow, "run_experiment", SimpleNamespace(submit=lambda *_: SimpleNamespace(wait=wait)))
    monkeypatch.setattr(flow, "checked", lambda *_: (None, []))
    with pytest.raises(KeyboardInterrupt):
        flow._run(project, Request({"train.epochs": 3}), "name")
    assert tracked == [({"prepare": "ran", "evolve": "ran", "train": "killed"}, "KILLED")]


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
    assert out.startswith("long  ran\n"), err
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

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import psutil
import pytest
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Running

from gee_core.errors import InputError
from pipelines.orchestration.crashed_flows import TAG
from pipelines.orchestration.flow import (
    delete_flow_runs,
    old_flow_runs,
    outcome,
    run_flow,
    serve_flow,
    settle_abandoned,
    stage_dependencies,
)
from pipelines.runtime.process_tree import process_key

ROOT = Path(__file__).resolve().parents[3]
DVC_YAML = """
stages:
  second: {cmd: "cp a b", deps: [a], outs: [b]}
  first: {cmd: "echo 1 > a", outs: [a]}
  third: {cmd: "cat b missing > c || exit 9", deps: [b], outs: [c]}
  other: {cmd: "cp a d", deps: [a], outs: [d]}
"""
RUN = """
from pipelines.orchestration.flow import FlowError, run_flow
try:
    print("results:", run_flow())
except FlowError as error:
    print("error:", error)
"""
LONG = """
import pathlib, time
from pipelines.runtime.process_tree import die_with_parent
die_with_parent(interval=0.1)
pathlib.Path("started").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.1)
pathlib.Path("a").touch()
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "data/raw").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_graph_is_dvcs_with_dependencies_first(project):
    dependencies = stage_dependencies(project)
    assert dependencies == {"first": [], "second": ["first"], "third": ["second"], "other": ["first"]}
    order = list(dependencies)
    assert all(order.index(needed) < order.index(stage) for stage in order for needed in dependencies[stage])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Running stage 'train':\n> python -m pipelines.train\nUpdating lock file 'dvc.lock'\n", "ran"),
        ("Stage 'train' is cached - skipping run, checking out outputs\n", "cached"),
        ("Stage 'train' didn't change, skipping\nData and pipelines are up to date.\n", "skipped"),
    ],
)
def test_what_became_of_a_stage_is_read_from_dvcs_words(text, expected):
    assert outcome(text) == expected


def test_a_broken_dvc_yaml_is_one_message_before_anything_starts(project):
    (project / "dvc.yaml").write_text("stages: {first: {outs: [a]}}")
    with pytest.raises(InputError, match=r"dvc\.yaml") as caught:
        run_flow()
    assert "\n" not in str(caught.value)


def test_a_cron_that_is_none_is_named():
    with pytest.raises(InputError, match=r'--cron "0 25 \* \* \*"'):
        serve_flow("0 25 * * *")


def test_a_schedule_without_a_server_says_how_to_start_one():
    with pytest.raises(InputError, match=r"PREFECT_API_URL: not set.*prefect server start"):
        serve_flow("0 2 * * *")


@pytest.mark.parametrize("needs_it", [lambda: serve_flow("0 2 * * *"), run_flow, lambda: old_flow_runs(30)])
def test_a_server_that_is_away_is_named_by_its_address(needs_it, project):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/api: no Prefect server"),
    ):
        needs_it()


class Prefect:
    """A server's flow runs and task runs, by id; `get_client` gives it."""

    def __init__(self, flow_runs: dict, task_runs: dict | None = None):
        self.flow_runs, self.task_runs, self.page = flow_runs, task_runs or {}, 2

    def __call__(self, sync_client):
        return contextlib.nullcontext(self)

    def read_flow_runs(self, flow_filter, flow_run_filter, offset=0):
        assert flow_filter.name.any_ == ["gee"]
        self.asked = flow_run_filter
        return list(self.flow_runs.values())[offset:][: self.page]

    def read_task_runs(self, flow_run_filter):
        return [run for run in self.task_runs.values() if run.flow_run_id in flow_run_filter.id.any_]

    def set_flow_run_state(self, run_id, state, force):
        self.flow_runs[run_id].state = state

    def set_task_run_state(self, run_id, state, force):
        self.task_runs[run_id].state = state

    def delete_flow_run(self, run_id):
        if run_id not in self.flow_runs:
            raise ObjectNotFound(None)
        del self.flow_runs[run_id]


@pytest.fixture
def prefect(monkeypatch):
    def make(*arguments) -> Prefect:
        server = Prefect(*arguments)
        monkeypatch.setattr("pipelines.orchestration.flow.get_client", server)
        monkeypatch.setattr("pipelines.orchestration.flow.end_orphaned_servers", lambda home: [17])
        return server

    return make


def test_runs_whose_process_is_gone_are_crashed_with_their_tasks_and_no_others(prefect):
    here = process_key(psutil.Process())
    keys = {uuid4(): here.rsplit("/", 2)[0] + "/999999999/1", uuid4(): here}
    gone, alive = keys
    runs = {k: SimpleNamespace(id=k, name=f"run-{k}", tags=[TAG + key], state=Running()) for k, key in keys.items()}
    tasks = {(run, kind): SimpleNamespace(flow_run_id=run, state=kind()) for run in runs for kind in (Running, Completed)}
    for key, task_run in tasks.items():
        task_run.id = key
    server, heard = prefect(runs, tasks), []
    settle_abandoned(heard.append)
    assert [str(kind.value) for kind in server.asked.state.type.any_] == ["RUNNING", "PENDING", "CANCELLING"]
    assert {run: server.flow_runs[run].state.type.value for run in runs} == {gone: "CRASHED", alive: "RUNNING"}
    assert "its process 999999999 on " in server.flow_runs[gone].state.message
    ends = {key: task_run.state.type.value for key, task_run in server.task_runs.items()}
    assert ends == {
        (gone, Running): "CRASHED",
        (gone, Completed): "COMPLETED",
        (alive, Running): "RUNNING",
        (alive, Completed): "COMPLETED",
    }
    assert heard[0] == "ended the server 17, left behind by a flow that was killed"
    assert heard[1].startswith(f"flow run run-{gone} is set to CRASHED: its process ")
    assert len(heard) == 2


def test_old_flow_runs_are_found_page_by_page_and_deleted(prefect):
    ids = [uuid4() for _ in range(5)]
    server = prefect({run_id: SimpleNamespace(id=run_id) for run_id in ids})
    assert old_flow_runs(30) == ids
    age = datetime.now(UTC) - server.asked.end_time.before_
    assert timedelta(days=30) <= age < timedelta(days=30, minutes=5)
    delete_flow_runs([uuid4(), *ids[1:]])  # one that is gone already is no trouble
    assert list(server.flow_runs) == ids[:1]


def flow_process(project: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(project / ".prefect")}
    return subprocess.Popen(
        [sys.executable, "-c", RUN], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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
    (project / "long.py").write_text(LONG)
    (project / "dvc.yaml").write_text(f"stages: {{long: {{cmd: {sys.executable} long.py, outs: [a]}}}}")
    killed = flow_process(project)
    while not (project / "started").exists():
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.1)
    killed.kill()
    killed.wait()
    killed.stdout.close()
    killed.stderr.close()
    assert any("uvicorn" in line for line in processes_of(project))
    assert states(project, "flow_run") == ["RUNNING"]
    (project / "go").touch()
    out, err = flow_process(project).communicate()
    assert out.strip() == "results: {'long': 'ran'}", err
    assert "is set to CRASHED: its process" in err
    assert states(project, "flow_run") == ["COMPLETED", "CRASHED"]
    assert "RUNNING" not in states(project, "task_run")
    assert processes_of(project) == []


@pytest.mark.slow
def test_a_failed_stage_is_one_message_and_the_rest_is_done_once(project):
    def run() -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True).stdout

    failed = run()
    assert failed.startswith("error: stage third failed (exit code 255):")
    assert "cat: missing" in failed
    assert [(project / name).exists() for name in "abd"] == [True, True, True]
    (project / "missing").touch()
    stages = {"first": "skipped", "second": "skipped", "third": "ran", "other": "skipped"}
    results = run().strip().removeprefix("results: ")
    assert dict(eval(results)) == stages
    (project / "c").unlink()
    assert "'third': 'cached'" in run()


TRACKED = """
stages:
  one: {cmd: "python track.py one"}
  two: {cmd: "python track.py two"}
"""


@pytest.mark.slow
def test_stages_side_by_side_are_tracked_below_the_run_of_their_flow(project):
    from mlflow import MlflowClient  # seconds

    (project / "dvc.yaml").write_text(TRACKED)
    (project / "track.py").write_text(
        "import sys\nfrom pipelines.stage import stage\nwith stage(sys.argv[1]) as s:\n    s.track.metrics({'x': 1.5})\n"
    )
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GEE_TRACKING": "on", "PATH": path}
    subprocess.run([sys.executable, "-c", RUN], env=environment, check=True)
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("gee").experiment_id])
    (flow,) = [run for run in runs if run.data.tags["gee.level"] == "pipeline"]
    stages = {run.data.tags["gee.stage"]: run for run in runs if run.data.tags["gee.level"] == "stage"}
    assert {run.data.tags["mlflow.parentRunId"] for run in stages.values()} == {flow.info.run_id}
    assert {name: run.data.metrics for name, run in stages.items()} == {"one": {"x": 1.5}, "two": {"x": 1.5}}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert (flow.data.tags["stage.one"], flow.data.tags["stage.two"]) == ("ran", "ran")
    assert not list((project / ".scratch/tracking").glob("*/"))

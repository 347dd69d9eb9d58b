import filecmp
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from runpy import run_path

import pytest
from dvc.api import DVCFileSystem

from gee_core.errors import InputError
from pipelines.orchestration import flow
from pipelines.orchestration.dvc_tasks import stage_dependencies, stage_names
from pipelines.orchestration.flow import pipeline_flow, run_flow
from pipelines.orchestration.request import Request
from pipelines.orchestration.serve import serve_flows
from pipelines.orchestration.server import old_flow_runs
from pipelines.orchestration.study_flow import study_flow

ROOT = Path(__file__).resolve().parents[3]
SCHEDULE = {"cron": "0 2 * * *", "name": "nightly", "timezone": "UTC", "studies": [], "study_cron": "0 4 * * 0"}
RUN = """
from pipelines.orchestration.flow import FlowError, run_flow
try:
    print("results:", run_flow().stages)
except FlowError as error:
    print("error:", error)
"""


def test_the_graph_is_dvcs_with_dependencies_first(project):
    dependencies = stage_dependencies(project)
    assert dependencies == {"first": [], "second": ["first"], "third": ["second"], "other": ["first"]}
    order = list(dependencies)
    assert all(order.index(needed) < order.index(stage) for stage in order for needed in dependencies[stage])


def test_a_broken_dvc_yaml_is_one_message_before_anything_starts(project):
    (project / "dvc.yaml").write_text("stages: {first: {outs: [a]}}")
    with pytest.raises(InputError, match=r"dvc\.yaml") as caught:
        run_flow()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["stages: [", "- stages", ""])
def test_a_dvc_yaml_that_is_no_yaml_is_one_message_when_the_flow_is_imported(text, project):
    (project / "dvc.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"{project}/dvc\.yaml: .*: `dvc repro --dry` shows what is wrong") as caught:
        run_path(str(ROOT / "pipelines/orchestration/flow.py"))
    assert "\n" not in str(caught.value)


def test_stages_that_are_no_mapping_are_left_to_dvc_whose_message_names_the_file(project):
    (project / "dvc.yaml").write_text("stages: 3")
    assert stage_names(project) == []
    with pytest.raises(InputError, match=r"dvc\.yaml") as caught:
        run_flow()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cron": "0 25 * * *"}, '--cron "0 25 * * *": not a cron schedule'),
        ({"study_cron": "weekly"}, '--study-cron "weekly": not a cron schedule'),
        ({"timezone": "Europe/Bonn"}, "--timezone Europe/Bonn: no such time zone"),
        ({"timezone": "../etc"}, "--timezone ../etc: no such time zone"),
        ({"studies": ["ablation", "nothing"]}, "unknown study 'nothing'"),
    ],
    ids=str,
)
def test_a_bad_schedule_is_named(arguments, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=re.escape(message)):
        serve_flows(**SCHEDULE | arguments)


def test_a_schedule_without_a_server_says_how_to_start_one():
    with pytest.raises(InputError, match=r"PREFECT_API_URL: not set.*prefect server start"):
        serve_flows(**SCHEDULE)


@pytest.fixture
def unhandled():
    """SIGTERM has its default handler."""
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.usefixtures("unhandled")
def test_a_flow_leaves_sigterm_to_prefect_which_tells_a_cancellation_from_a_crash():
    assert pipeline_flow.fn({"train.epoch": 3}).is_failed()
    assert study_flow.fn("nothing").is_failed()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("results", "failure", "message"),
    [
        ({"check": "skipped", "train": "ran", "report": "ran"}, "", "train, report ran"),
        ({"check": "skipped", "train": "cached"}, "", "everything was up to date"),
        ({"train": "failed"}, "stage train failed (exit code 1): train: error: a.npy: missing\nmore", None),
    ],
)
def test_the_state_of_a_flow_says_which_stages_ran_or_why_one_failed(results, failure, message, monkeypatch, project):
    monkeypatch.setattr(flow, "_run_stages", lambda dependencies, force, found: found.update(results) or failure)
    for name in ("_publish", "_track", "publish"):
        monkeypatch.setattr(flow, name, lambda *_: None)
    state = flow._run(project, Request(), "name")
    assert state.message == (message or "stage train failed (exit code 1): train: error: a.npy: missing")
    assert state.is_completed() == (message is not None)


def test_a_bad_request_fails_the_run_with_one_message_before_it_waits_for_another():
    state = pipeline_flow.fn({"train.epoch": 3})
    assert (state.type.value, state.message) == ("FAILED", "overrides: train.epoch is not a known key: did you mean epochs?")
    state = study_flow.fn("noise", overrides={"train.epoch": 3})
    assert state.type.value == "FAILED"
    assert "train.epoch is not a known key: did you mean epochs?" in state.message
    assert "unknown study 'nothing'" in study_flow.fn("nothing").message


@pytest.mark.parametrize("needs_it", [lambda: serve_flows(**SCHEDULE), run_flow, lambda: old_flow_runs(30)])
def test_a_server_that_is_away_is_named_by_its_address(needs_it, project):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/api: no Prefect server"),
    ):
        needs_it()


@pytest.mark.slow
def test_a_failed_stage_is_one_message_and_the_rest_is_done_once(project):
    def run() -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run([sys.executable, "-c", RUN], env=environment, capture_output=True, text=True).stdout

    failed = run()
    assert failed.startswith("error: stage third failed (exit code 255): ERROR: ")
    assert "cat: missing" in failed
    assert [(project / name).exists() for name in "abd"] == [True, True, True]
    (project / "missing").touch()
    stages = {"first": "skipped", "second": "skipped", "third": "ran", "other": "skipped"}
    results = run().strip().removeprefix("results: ")
    assert dict(eval(results)) == stages
    (project / "c").unlink()
    assert "'third': 'cached'" in run()


EXPERIMENT = """
stages:
  one: {cmd: "cp params.yaml a", params: [train.epochs], outs: [a]}
  two: {cmd: "cp a reports/summary.json", deps: [a], metrics: [reports/summary.json]}
  three: {cmd: "cat missing", deps: [a]}
"""
RUN_EXPERIMENT = """
from pipelines.orchestration.flow import FlowError, Request, run_flow
try:
    print("results:", run_flow(Request({"train.epochs": 77}, stages=["one"])).stages)
    run_flow(Request({"train.epochs": 78}, stages=["three"]))
except FlowError as error:
    print("error:", error)
"""


@pytest.mark.slow
def test_overrides_run_as_an_experiment_and_leave_the_project_as_it_is(project):
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-fq"], check=True)
    (project / "dvc.yaml").write_text(EXPERIMENT)
    (project / ".gitignore").write_text("/a\n/.scratch\n/.prefect\n")
    for command in (["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]):
        subprocess.run(["git", *command], check=True)
    shutil.copytree(project, before := project.parent / "before", ignore=shutil.ignore_patterns(".*"))
    identity = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **identity, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(project / ".prefect")}
    done = subprocess.run([sys.executable, "-c", RUN_EXPERIMENT], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("results: {'one': 'ran'}\nerror: experiment "), done.stderr
    assert "cat: missing" in done.stdout
    assert not filecmp.dircmp(before, project, ignore=[".dvc", ".git", ".gitignore", ".scratch", ".prefect"]).diff_files
    assert subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True).stdout == ""
    assert not (project / "a").exists()
    listed = [sys.executable, "-m", "dvc", "exp", "list", "--name-only"]
    (name,) = subprocess.run(listed, capture_output=True, text=True).stdout.split()
    with DVCFileSystem(str(project), rev=name).open("a") as file:
        assert "epochs: 77" in file.read().decode()
    with closing(sqlite3.connect(project / ".prefect/prefect.db")) as db:
        artifacts = db.execute("select data, description from artifact where key = 'gee-results'").fetchall()
        assert any("| one | ran |" in data and name in about for data, about in artifacts)
        assert any("| experiment | failed |" in data and "cat: missing" in about for data, about in artifacts)


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

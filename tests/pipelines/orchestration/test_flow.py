"""The flows and their tasks, without a server; and, slowly, whole flows with Prefect's temporary server."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from gee_core.config import Params
from pipelines.orchestration.flow_lock import LOCK
from pipelines.orchestration.request import Request
from pipelines.project.params import load_params
from pipelines.reporting.summary import read_summary, verdict
from pipelines.runtime.process_tree import file_lock
from pipelines.runtime.run_files import waiting_folders
from tests.project_copy import ROOT, commit, environment, make_repository, run
from tests.running import listening
from tests.wait_until import wait_until


@pytest.fixture
def published(flow, monkeypatch):
    """The first arguments of the calls that would make artifacts."""
    calls = []
    for name in ("create_link", "create_markdown"):
        monkeypatch.setattr(flow.artifacts, f"{name}_artifact", lambda *shown, name=name: calls.append((name, shown[0])))
    return calls


def test_the_page_of_a_run_has_the_summary_every_stage_and_links_to_what_there_is(flow, published):
    summary = read_summary(ROOT / "reports/summary.json")
    table = flow.results_markdown({"evolve": "cached", "train": "ran"}, summary)
    title = f"| cifarnet × {summary.width:.3g} on digits, {summary.n_genes} genes, baseline, seed 0 | |"
    assert table.startswith(verdict(summary)[0]) and f"\n\n{title}\n|---|---|\n| test accuracy |" in table
    assert "| evolve | cached |\n| train | ran |" in table
    flow.publish(table, "http://127.0.0.1:5000/#/experiments/1/runs/2", "about")
    flow.publish("failed", None, "about")
    assert published == [
        ("create_markdown", table),
        ("create_link", "http://127.0.0.1:5000/#/experiments/1/runs/2"),
        ("create_markdown", "failed"),
    ]


def test_the_form_has_the_presets_and_every_setting_with_its_range_and_requires_none(flow):
    from prefect.utilities.callables import parameter_schema

    shown = parameter_schema(flow.pipeline_flow).model_dump()["properties"]
    assert "digits" in shown["preset"]["enum"]  # of the project in which the flow was imported
    sections = shown["overrides"]["properties"]
    assert ((lr := sections["train"]["properties"]["lr"])["exclusiveMinimum"], set(sections)) == (0, set(Params.model_fields))
    now = f"`{load_params(ROOT / 'params.yaml').train.lr}` in params.yaml. "
    assert lr["description"].startswith(now) and "default" not in lr  # which the form would send
    assert next(iter(shown)) == "preset" and "title" in sections["report"]["properties"] and "title" not in sections["train"]
    assert not {"$ref", "required"} & set(re.findall(r'"([^"]+)":', json.dumps(shown)))


def test_overrides_come_by_section_or_by_key(flow):
    by_section = {"evolve": {"budget": {"energy_uj": 1}}, "train": {"lr": 1, "epochs": 2}}
    assert (
        flow.by_key(by_section)
        == {"evolve.budget": {"energy_uj": 1}, "train.lr": 1, "train.epochs": 2}
        == flow.by_key(flow.by_key(by_section))
    )


def test_a_bad_request_fails_the_run_with_one_message_before_it_waits_for_another(flow):
    state = flow.pipeline_flow.fn(overrides={"train.epoch": 3})
    assert (state.type.value, state.message) == ("FAILED", "overrides: train.epoch is not a known key: did you mean epochs?")
    state = flow.study_flow.fn("noise", overrides={"train": {"epoch": 3}})
    assert state.type.value == "FAILED"
    assert "train.epoch is not a known key: did you mean epochs?" in state.message
    assert "unknown study 'nothing'" in flow.study_flow.fn("nothing").message
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # left to Prefect, which tells a cancellation from a crash


@pytest.fixture
def pipeline(flow, monkeypatch, short_stages, published):
    """Runs the pipeline with this in place of following the process; its state, or its error, what was tracked and how."""
    run = SimpleNamespace(name="fox", id="ab12-34", run_count=1)

    def pipeline(follow):
        tracked, commands = [], []

        @contextmanager
        def followed(command, env):
            commands.append((command[4:], env["PATH"].split(os.pathsep)[0]))
            yield None

        monkeypatch.setattr(flow, "follow_stages", lambda process, results: follow(results))
        monkeypatch.setattr(flow, "followed", followed)
        run_of = SimpleNamespace(tags=tracked.append)
        tracker = SimpleNamespace(run=run_of, close=tracked.append, address=None, models=[])
        monkeypatch.setattr(flow, "open_execution", lambda params, with_versions: tracker)
        try:
            state = flow.run_pipeline(Request(), run)
        except KeyboardInterrupt as error:
            state = error
        assert commands == [(["repro", "--keep-going"], str(Path(sys.executable).parent))]  # dvc.yaml's python is this one
        return state, tracked

    return pipeline


def test_a_flow_is_claimed_and_holds_the_project_while_it_runs(flow, monkeypatch, short_stages):
    calls = []

    def run_pipeline(request, run):
        with file_lock(Path(LOCK), wait=False) as free:
            calls.append((request, run, free))
        raise KeyboardInterrupt

    monkeypatch.setattr(flow, "die_with_parent", lambda: None)
    monkeypatch.setattr(flow, "get_run_logger", lambda: SimpleNamespace(info=print))
    monkeypatch.setattr(flow, "claim", lambda tags: calls.append(tags) or "run")
    monkeypatch.setattr(flow, "settle_abandoned", lambda on_line: calls.append("settled"))
    monkeypatch.setattr(flow, "run_pipeline", run_pipeline)
    state = flow.pipeline_flow.fn(stages=["third"], force=True)
    assert calls == [["digits", "cifarnet"], "settled", (Request(stages=["third"], force=True), "run", False)]
    assert (state.type.value, state.message) == ("CANCELLED", "stopped by Ctrl-C")


NOT_RUN = dict.fromkeys(("stage.second", "stage.third", "stage.other"), "not run")
FAILURES = ["stage first failed: why\nlines", "stage other failed\nmore"]


@pytest.mark.parametrize(
    ("outcome", "failures", "state", "tracked"),
    [
        ("ran", [], ("COMPLETED", "first ran"), [{"stage.first": "ran"}, "FINISHED"]),
        ("cached", [], ("COMPLETED", "everything was up to date"), [{"stage.first": "cached"}, "FINISHED"]),
        ("skipped", [], ("COMPLETED", "everything was up to date"), []),
        ("failed", FAILURES, ("FAILED", "stage first failed: why"), [{"stage.first": "failed"} | NOT_RUN, "FAILED"]),
    ],
)
def test_a_run_has_what_became_of_its_stages_and_is_tracked_unless_nothing_changed(
    outcome, failures, state, tracked, pipeline, published
):
    ended, found = pipeline(lambda results: results.update(first=outcome) or failures)
    assert ((ended.type.value, ended.message), found) == (state, tracked)
    assert ended.data == "\n".join(failures) if failures else ended.data[0] == {"first": outcome}
    [(_, table)] = published
    assert f"| first | {outcome} |" in table and ("| other | not run |" in table) == bool(failures)


def test_a_run_that_is_stopped_tracks_what_had_become_of_its_stages(pipeline):
    def stop(results):
        results["first"] = "ran"
        raise KeyboardInterrupt

    state, tracked = pipeline(stop)
    assert isinstance(state, KeyboardInterrupt)
    assert tracked == [{"stage.first": "ran"} | NOT_RUN, "KILLED"]


PAGE = "http://127.0.0.1:5000/#/experiments/1/runs/2?workflowType=machine_learning"


def test_a_study_has_its_tables_and_its_page_in_mlflow_or_a_reason(flow, monkeypatch, tmp_path, published):
    from pipelines.studies.cell import Request

    def run(output: str, code: int = 0):
        monkeypatch.setattr(flow, "followed", lambda *_: nullcontext(SimpleNamespace(returncode=code)))
        monkeypatch.setattr(flow, "show", lambda _: output)
        monkeypatch.setattr(flow, "lines_of", lambda _: None)
        return flow.run_study(Request("noise"), force=False)

    (tmp_path / "noise").mkdir()
    (tmp_path / "noise/table.md").write_text("| table |")
    monkeypatch.setattr(flow, "OUT", tmp_path)
    state = run(f"2 cells\n{flow.TRACKED}{PAGE}\nTables and plots\n")
    assert (state.data, published) == (str(tmp_path / "noise"), [("create_markdown", "| table |"), ("create_link", PAGE)])
    run("2 cells\n")
    assert published[2:] == [("create_markdown", "| table |")]
    state = run("2 cells\ngee: error: data/raw: missing\n", 2)
    assert state.is_failed()
    assert state.message == "study noise failed: gee: error: data/raw: missing"
    assert state.data == f"{state.message}\n2 cells\ngee: error: data/raw: missing"


def flow_process(project: Path, *options: str, **env: str) -> subprocess.Popen:
    """`gee flow run` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "flow", "run", *options],
        env=environment(PYTHONPATH=str(ROOT), PREFECT_HOME=str(project / ".prefect"), **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


STAGES = """
stages:
  one: {cmd: "python track.py one > a", outs: [a]}
  two: {cmd: "python track.py two && cat missing > b", outs: [b]}
  three: {cmd: "cp b c", deps: [b], outs: [c]}
"""
TRACKS = "import sys\nfrom pipelines.stage import stage\nwith stage(sys.argv[1]) as s:\n    s.track.metrics({'x': 1.5})\n"


@pytest.mark.slow
def test_a_failed_stage_is_one_message_and_the_rest_is_tracked_below_the_flow(short_stages):
    from mlflow import MlflowClient  # seconds

    (short_stages / "dvc.yaml").write_text(STAGES)
    (short_stages / "track.py").write_text(TRACKS)
    failed = flow_process(short_stages, GEE_TRACKING="on")
    out, err = failed.communicate()
    assert (failed.returncode, out) == (1, "")
    assert "gee: error: stage two failed: WARNING: failed to run: python track.py two" in err
    assert "cat: missing" in err
    assert f'File "{ROOT / "pipelines"}' not in err  # of Prefect's server there may be a traceback
    (short_stages / "missing").touch()
    out, _ = flow_process(short_stages, GEE_TRACKING="on").communicate()
    became = re.findall(r"^(\w+) +(ran|skipped|cached)$", out, re.MULTILINE)
    assert sorted(became) == [("one", "skipped"), ("three", "ran"), ("two", "ran")]
    out, _ = flow_process(short_stages, GEE_TRACKING="on").communicate()
    assert "  ran\n" not in out  # no row in MLflow
    client = MlflowClient(f"sqlite:///{short_stages}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("gee").experiment_id], order_by=["attributes.start_time"])
    (run,) = [run for run in runs if run.data.tags["gee.level"] == "pipeline"]  # both attempts
    assert run.info.status == "FINISHED"
    assert [run.data.tags[f"stage.{name}"] for name in ("one", "two", "three")] == ["skipped", "ran", "ran"]
    stages = [run for run in runs if run.data.tags["gee.level"] == "stage"]
    parents = {(run.data.tags["gee.stage"], run.data.tags["mlflow.parentRunId"]) for run in stages}
    assert parents == {("one", run.info.run_id), ("two", run.info.run_id)}
    assert all(run.data.metrics == {"x": 1.5} for run in stages)
    assert waiting_folders(short_stages / ".scratch/runs") == {}


EXPERIMENT = """
stages:
  one: {cmd: "cp params.yaml a", params: [train.epochs], outs: [a]}
"""


@pytest.mark.slow
def test_overrides_run_as_an_experiment_and_leave_the_project_as_it_is(short_stages):
    from dvc.api import DVCFileSystem

    project = short_stages
    make_repository(project)
    run(project, sys.executable, "-m", "dvc", "init", "-fq")
    (project / "dvc.yaml").write_text(EXPERIMENT)
    (project / ".gitignore").write_text("/a\n/.scratch\n/.prefect\n")
    commit(project, "all")
    out, err = flow_process(project, "--set", "train.epochs=77").communicate()
    assert out.startswith("one  ran\n"), err
    assert run(project, "git", "status", "--porcelain") == ""
    assert not (project / "a").exists()
    (name,) = run(project, sys.executable, "-m", "dvc", "exp", "list", "--name-only").split()
    assert out.endswith(f"Next     dvc exp apply {name}\n")
    with DVCFileSystem(str(project), rev=name).open("a") as file:
        assert "epochs: 77" in file.read().decode()
    with closing(sqlite3.connect(project / ".prefect/prefect.db")) as db:
        [(data, about)] = db.execute("select data, description from artifact where key = 'gee-results'").fetchall()
        assert "| one | ran |" in data and name in about


LONG = """
import pathlib, time
from pipelines.runtime.process_tree import die_with_parent
die_with_parent(interval=0.1)
pathlib.Path("started").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.1)
pathlib.Path("a").touch()
"""


def flow_at_work(project: Path, **env: str) -> subprocess.Popen:
    """`gee flow run` whose one stage is at work."""
    (project / "long.py").write_text(LONG)
    (project / "started").unlink(missing_ok=True)
    (project / "dvc.yaml").write_text(f"stages: {{long: {{cmd: {sys.executable} long.py, outs: [a]}}}}")
    process = flow_process(project, **env)
    wait_until(lambda: (project / "started").exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return process


def servers_of(project: Path) -> list[psutil.Process]:
    """The processes that keep their state in the project, this one's children or not."""
    found = []
    for process in psutil.process_iter(["environ", "status"]):
        home = (process.info["environ"] or {}).get("PREFECT_HOME")
        if home == str(project / ".prefect") and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def states(project: Path, table: str) -> list[str]:
    with closing(sqlite3.connect(project / ".prefect/prefect.db")) as db:
        return sorted(state for (state,) in db.execute(f"select state_type from {table}"))


def stop(process: subprocess.Popen, send, number: int) -> str:
    """What a flow says that gets a signal."""
    send(process.pid, number)
    err = process.communicate()[1]
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], err
    assert f'File "{ROOT / "pipelines"}' not in err  # of Prefect's server, which gets the signal too, there may be a traceback
    return err


@pytest.mark.slow
def test_a_flow_that_is_stopped_or_killed_leaves_no_run_at_work(short_stages):
    (short_stages / "tell.sh").write_text(f"#!/bin/sh\ntouch {short_stages}/told\n")
    notify = {"GEE_NOTIFY": f"sh {short_stages}/tell.sh"}
    interrupted = "gee flow run: interrupted; the same command continues where it stopped\n"
    assert interrupted in stop(flow_at_work(short_stages, **notify), os.killpg, signal.SIGINT)
    assert (states(short_stages, "flow_run"), servers_of(short_stages)) == (["CANCELLED"], [])
    assert not (short_stages / "told").exists()
    assert interrupted in stop(flow_at_work(short_stages, **notify), os.kill, signal.SIGTERM)
    assert (states(short_stages, "flow_run"), servers_of(short_stages)) == (["CANCELLED", "CRASHED"], [])
    assert (short_stages / "told").exists()

    killed = flow_at_work(short_stages)
    assert set().union(*map(listening, servers_of(short_stages))) == {"127.0.0.1"}
    killed.kill()
    for server in servers_of(short_stages):  # as docs/OPERATIONS.md says
        server.terminate()
    killed.communicate()
    assert states(short_stages, "flow_run") == ["CANCELLED", "CRASHED", "RUNNING"]
    (short_stages / "go").touch()
    out, err = flow_process(short_stages).communicate()
    assert out.startswith("long  ran\n"), err
    assert "is set to CRASHED: its process" in err
    assert states(short_stages, "flow_run") == ["CANCELLED", "COMPLETED", "CRASHED", "CRASHED"]
    assert "RUNNING" not in states(short_stages, "task_run")
    assert servers_of(short_stages) == []

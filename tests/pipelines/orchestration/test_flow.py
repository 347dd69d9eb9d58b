"""The form of the flows; and, slowly, whole flows with Prefect's temporary server."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from gee_core.config import Params
from pipelines.project.params import load_params
from pipelines.runtime.run_files import waiting_folders
from tests.project_copy import ROOT, run
from tests.running import listening, wait_until
from tests.short_stages import gee, start


def test_the_form_has_the_presets_and_every_setting_with_its_range_and_requires_none(flow):
    from prefect.utilities.callables import parameter_schema

    shown = parameter_schema(flow.pipeline_flow).model_dump()
    assert "digits" in shown["properties"]["preset"]["enum"]  # of the project in which the flow was imported
    form, of = shown["properties"]["overrides"], shown["definitions"]
    sections = {name: of[link["$ref"].rpartition("/")[2]] for name, link in form["properties"].items()}
    assert set(sections) == set(Params.model_fields) == {section["title"] for section in sections.values()}
    lr = sections["train"]["properties"]["lr"]
    now = f"`{load_params(ROOT / 'params.yaml').train.lr}` in params.yaml. "
    assert (lr["exclusiveMinimum"], lr["title"]) == (0, "Lr") and lr["description"].startswith(now)
    assert next(iter(shown["properties"])) == "preset" and "title" in sections["report"]["properties"]
    inner = [of[name] for name in ("Proxy", "Events", "Hardware", "Budget")]
    for part in (form, *sections.values(), *inner):
        assert "required" not in part
        for field in part["properties"].values():  # a switch and a default would be sent for a field that nobody touched
            assert field.get("type") != "boolean" and "default" not in field


def test_overrides_come_by_section_or_by_key(flow):
    by_section = {"evolve": {"budget": {"energy_uj": 1}}, "train": {"lr": 1, "epochs": 2}}
    assert (
        flow.by_key(by_section)
        == {"evolve.budget": {"energy_uj": 1}, "train.lr": 1, "train.epochs": 2}
        == flow.by_key(flow.by_key(by_section))
    )


def test_the_name_of_an_experiment_is_that_of_the_flow_run_as_far_as_dvc_takes_it(flow, tmp_path):
    for name, count, expected in (
        ("eager-fox", 1, "eager-fox-ab12"),
        ("größer/1e-3 ~ [a..b]: @{x}?*^\\ .lock", 3, "größer-1e-3-a-b-x-lock-ab12-3"),
        ("-x", 1, "x-ab12"),
    ):
        found = flow.experiment_name(SimpleNamespace(name=name, id="ab12-34", run_count=count))
        assert found == expected
        run(tmp_path, "git", "check-ref-format", f"refs/exps/00/0000/{found}")


def test_a_bad_request_is_one_message_before_prefect_starts(main, bare_project):
    (bare_project / "data/raw").mkdir(parents=True)
    message = "gee: error: --set: train.epoch is not a known key: did you mean epochs?\n"
    assert main("flow", "run", "--set", "train.epoch=3") == (2, "", message)


STAGES = """
stages:
  one: {cmd: "python track.py one > a", outs: [a]}
  two: {cmd: "python track.py two && cat missing > b", outs: [b]}
  three: {cmd: "cp b c", deps: [b], outs: [c]}
  four: {cmd: "cp a d", deps: [a], outs: [d]}
"""
TRACKS = "import sys\nfrom pipelines.stage import stage\nwith stage(sys.argv[1]) as s:\n    s.run.note(metrics={'x': 1.5})\n"


def query(project: Path, command: str) -> list[tuple]:
    with closing(sqlite3.connect(project / ".prefect/prefect.db")) as db:
        return db.execute(command).fetchall()


@pytest.mark.slow
def test_a_failed_stage_is_one_message_and_the_rest_is_tracked_below_the_flow(short_stages):
    from mlflow import MlflowClient  # seconds

    (short_stages / "dvc.yaml").write_text(STAGES)
    (short_stages / "track.py").write_text(TRACKS)
    code, out, err = gee(short_stages, "flow", "run", GEE_TRACKING="on")
    assert (code, out) == (1, "")
    assert "gee: error: stage two failed: WARNING: failed to run: python track.py two" in err
    assert "cat: missing" in err and (short_stages / "d").exists()
    assert f'File "{ROOT / "pipelines"}' not in err  # of Prefect's server there may be a traceback
    (short_stages / "missing").touch()
    out = gee(short_stages, "flow", "run", GEE_TRACKING="on")[1]
    became = re.findall(r"^(\w+) +(ran|skipped|cached)$", out, re.MULTILINE)
    assert sorted(became) == [("four", "skipped"), ("one", "skipped"), ("three", "ran"), ("two", "ran")]
    client = MlflowClient(f"sqlite:///{short_stages}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("gee").experiment_id], order_by=["attributes.start_time"])
    (run,) = [run for run in runs if run.data.tags["gee.level"] == "pipeline"]  # both attempts
    assert run.info.status == "FINISHED"
    names = query(short_stages, "select name from flow_run order by start_time")
    stages = [run for run in runs if run.data.tags["gee.level"] == "stage"]
    parents = {(run.data.tags["gee.stage"], run.data.tags["mlflow.parentRunId"]) for run in stages}
    assert parents == {("one", run.info.run_id), ("two", run.info.run_id)}
    assert {(run.data.tags["prefect.flow_run"],) for run in stages} == set(names) and len(names) == 2
    assert all(run.data.metrics == {"x": 1.5} for run in stages)
    assert waiting_folders(short_stages / ".scratch/runs") == {}
    tasks = query(short_stages, "select name, state_name from task_run order by start_time")
    assert sorted(tasks[:3]) == [("four", "Completed"), ("one", "Completed"), ("two", "Failed")]
    failed, complete = query(short_stages, "select data from artifact where key = 'gee-results' order by created")
    assert "| two | failed |" in failed[0] and "| three | ran |" in complete[0]


LONG = """
import pathlib, time
from pipelines.runtime.process_tree import die_with_parent
die_with_parent(interval=0.1)
pathlib.Path("started").touch()
time.sleep(3600)
"""


def flow_at_work(project: Path) -> subprocess.Popen:
    """`gee flow run` whose one stage is at work."""
    (project / "long.py").write_text(LONG)
    (project / "started").unlink(missing_ok=True)
    (project / "dvc.yaml").write_text(f"stages: {{long: {{cmd: {sys.executable} long.py, outs: [a]}}}}")
    process = start(project, "flow", "run")
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


def states(project: Path) -> list[str]:
    return sorted(state for (state,) in query(project, "select state_type from flow_run"))


def stop(process: subprocess.Popen, send, number: int) -> str:
    """What a flow says that gets a signal."""
    send(process.pid, number)
    err = process.communicate()[1]
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], err
    assert f'File "{ROOT / "pipelines"}' not in err  # of Prefect's server, which gets the signal too, there may be a traceback
    return err


@pytest.mark.slow
def test_a_flow_that_is_stopped_says_so_and_leaves_no_process_at_work(short_stages):
    interrupted = "gee flow run: interrupted; the same command continues where it stopped\n"
    process = flow_at_work(short_stages)
    assert set().union(*map(listening, servers_of(short_stages))) == {"127.0.0.1"}
    assert interrupted in stop(process, os.killpg, signal.SIGINT)
    assert (states(short_stages), servers_of(short_stages)) == (["CANCELLED"], [])
    assert interrupted in stop(flow_at_work(short_stages), os.kill, signal.SIGTERM)
    assert (states(short_stages), servers_of(short_stages)) == (["CANCELLED", "CRASHED"], [])

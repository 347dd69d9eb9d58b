"""Schedules: what `gee flow serve` hands to Prefect, the same in prefect.yaml, and who is told of a flow that failed."""

import importlib
import inspect
from pathlib import Path

import pytest
import yaml

from pipelines.orchestration import serve
from pipelines.orchestration.cli import serve_command
from pipelines.orchestration.flow import pipeline_flow
from pipelines.orchestration.notify import on_end
from pipelines.orchestration.study_flow import study_flow

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def served(monkeypatch):
    """Serves with these arguments; the deployments, and the options of Prefect's `serve`."""
    found = {}
    for name in ("exit_on_sigterm", "check_server", "settle_abandoned"):
        monkeypatch.setattr(serve, name, lambda *_: None)
    monkeypatch.setattr(serve, "serve", lambda *deployments, **options: found.update(deployments=deployments, options=options))
    monkeypatch.chdir(ROOT)

    def start(*args, **options):
        serve.serve_flows(*args, **options)
        return found["deployments"], found["options"]

    return start


def when(deployment):
    (schedule,) = deployment.schedules
    return schedule.schedule.cron, schedule.schedule.timezone


def test_the_pipeline_and_every_study_have_a_deployment_with_a_schedule_of_their_own(served):
    (nightly, study), options = served("0 3 * * *", "mine", "Europe/Berlin", ["ablation"], study_cron="0 5 * * 1")
    assert (nightly.name, nightly.flow_name, when(nightly)) == ("mine", pipeline_flow.name, ("0 3 * * *", "Europe/Berlin"))
    assert (study.name, study.flow_name, when(study)) == ("weekly-ablation", study_flow.name, ("0 5 * * 1", "Europe/Berlin"))
    assert (nightly.parameters, study.parameters) == ({}, {"study": "ablation"})
    assert options == {"limit": 1}


def test_prefect_yaml_has_the_same_two_deployments(served):
    usual = {name: p.default for name, p in inspect.signature(serve_command).parameters.items()}
    listed = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    ours, _ = served(**usual | {"cron": listed[0]["schedules"][0]["cron"], "studies": ["ablation"]})
    for theirs, our, flow in zip(listed, ours, (pipeline_flow, study_flow), strict=True):
        path, name = theirs["entrypoint"].split(":")
        assert getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name) is flow
        (schedule,) = theirs["schedules"]
        assert (theirs["name"], (schedule["cron"], schedule["timezone"])) == (our.name, when(our))
        assert (theirs.get("parameters", {}), theirs["tags"], theirs["concurrency_limit"]) == (our.parameters, our.tags, 1)


@pytest.mark.parametrize("flow", [pipeline_flow, study_flow], ids=["pipeline", "study"])
def test_a_flow_that_fails_or_crashes_tells_who_is_to_be_told(flow):
    assert flow.on_failure_hooks == flow.on_crashed_hooks == [on_end]

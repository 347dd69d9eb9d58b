"""The Prefect server that has to answer, and schedules: what `gee flow serve` hands to Prefect, the same in prefect.yaml."""

import importlib
import inspect
import re
import socket

import pytest

from gee_core.errors import InputError
from pipelines.project.safe_yaml import read_yaml
from tests.project_copy import ROOT

SCHEDULE = {"cron": "0 2 * * *", "timezone": "UTC", "studies": [], "study_cron": "0 4 * * 0"}


@pytest.fixture(autouse=True)
def _in_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_a_server_that_never_answers_is_named_without_its_password(server, monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setattr(server, "SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with (
            temporary_settings({PREFECT_API_URL: f"http://ada:hunter22@127.0.0.1:{port}/api"}),
            pytest.raises(InputError, match=r"^PREFECT_API_URL = http://\*\*\*@127.0.0.1:\d+/api: no Prefect server answers"),
        ):
            server.connect()
        listening.accept()[0].close()
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):  # there was one connection
            listening.accept()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cron": "0 25 * * *"}, '--cron "0 25 * * *", --timezone UTC: no such schedule or time zone: write for example "0 2'),
        ({"timezone": "Europe/Bonn"}, '--cron "0 2 * * *", --timezone Europe/Bonn: no such schedule or time zone'),
        ({"studies": ["ablation", "nothing"]}, "unknown study 'nothing'"),
        ({}, "PREFECT_API_URL: not set, and a schedule needs a server: start `prefect server start`"),
    ],
    ids=str,
)
def test_a_bad_schedule_or_a_missing_server_is_named(arguments, message, server):
    with pytest.raises(InputError, match=re.escape(message)):
        server.serve_flows(**SCHEDULE | arguments)


def when(deployment):
    (schedule,) = deployment.schedules
    return schedule.schedule.cron, schedule.schedule.timezone


def test_the_pipeline_and_every_study_have_a_deployment_as_in_prefect_yaml(server, monkeypatch):
    from pipelines.orchestration.cli import serve_command

    found = {}
    for name in ("exit_on_sigterm", "connect"):
        monkeypatch.setattr(server, name, lambda *_: None)
    monkeypatch.setattr(server, "serve", lambda *deployments, **options: found.update(deployments=deployments, options=options))
    usual = {name: p.default for name, p in inspect.signature(serve_command).parameters.items()}
    listed = read_yaml(ROOT / "prefect.yaml")["deployments"]
    server.serve_flows(**usual | {"cron": listed[0]["schedules"][0]["cron"], "studies": ["ablation"]})
    assert found["options"] == {"limit": 1}
    for theirs, ours, flow in zip(listed, found["deployments"], (server.pipeline_flow, server.study_flow), strict=True):
        path, name = theirs["entrypoint"].split(":")
        assert getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name) is flow
        (schedule,) = theirs["schedules"]
        assert (theirs["name"], (schedule["cron"], schedule["timezone"])) == (ours.name, when(ours))
        assert (theirs.get("parameters", {}), theirs["tags"], theirs["concurrency_limit"]) == (ours.parameters, ours.tags, 1)
    server.serve_flows("0 3 * * *", "Europe/Berlin", ["ablation"], study_cron="0 5 * * 1")
    assert [when(ours) for ours in found["deployments"]] == [("0 3 * * *", "Europe/Berlin"), ("0 5 * * 1", "Europe/Berlin")]
    server.serve_flows(**usual | {"studies": []})
    assert [ours.schedules for ours in found["deployments"]] == [[]]  # only when somebody asks for a run

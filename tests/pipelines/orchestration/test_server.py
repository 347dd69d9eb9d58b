import contextlib
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import psutil
import pytest
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Running

from gee_core.errors import InputError
from pipelines.orchestration.crashed_flows import TAG
from pipelines.orchestration.server import check_server, claim, delete_flow_runs, old_flow_runs, settle_abandoned
from pipelines.runtime.process_tree import process_key
from pipelines.tracking.pipeline_run import origin_tags


class Prefect:
    """A server's flow runs and task runs, by id; `get_client` gives it."""

    def __init__(self, flow_runs: dict, task_runs: dict | None = None):
        self.flow_runs, self.task_runs, self.page = flow_runs, task_runs or {}, 2

    def __call__(self, sync_client):
        return contextlib.nullcontext(self)

    def read_flow_runs(self, flow_filter, flow_run_filter, offset=0):
        assert flow_filter.name.any_ == ["gee", "gee-study"]
        self.asked = flow_run_filter
        return list(self.flow_runs.values())[offset:][: self.page]

    def update_flow_run(self, run_id, tags):
        self.flow_runs[run_id].tags = tags

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
        monkeypatch.setattr("pipelines.orchestration.server.get_client", server)
        monkeypatch.setattr("pipelines.orchestration.server.end_orphaned_servers", lambda home: [17])
        return server

    return make


def test_runs_whose_process_is_gone_are_crashed_with_their_tasks_and_no_others(prefect, monkeypatch):
    here = process_key(psutil.Process())
    keys = {uuid4(): here.rsplit("/", 2)[0] + "/999999999/1", uuid4(): here}
    gone, alive = keys
    runs = {k: SimpleNamespace(id=k, name=f"run-{k}", tags=[TAG + key], state=Running()) for k, key in keys.items()}
    tasks = {(run, kind): SimpleNamespace(flow_run_id=run, state=kind()) for run in runs for kind in (Running, Completed)}
    for key, task_run in tasks.items():
        task_run.id = key
    told: list[str] = []
    monkeypatch.setattr("pipelines.orchestration.server.notify", told.append)
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
    assert [text.startswith(f"flow run run-{gone} crashed: its process ") for text in told] == [True]


def test_an_attempt_that_repeats_another_has_the_tag_of_its_own_process_alone(prefect, monkeypatch):
    monkeypatch.setenv("GEE_FLOW_RUN", "")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    run = SimpleNamespace(id=uuid4(), name="lazy-owl", tags=["mine", TAG + "elsewhere/999999999/1"])
    server = prefect({run.id: run})
    claim(run, ["digits"])
    assert server.flow_runs[run.id].tags == ["digits", TAG + process_key(psutil.Process()), "mine"]
    assert {tag: value for tag, value in origin_tags(Path.cwd()).items() if tag.startswith("prefect.")} == {
        "prefect.flow_run": "lazy-owl",
        "prefect.flow_run_id": str(run.id),
        "prefect.url": f"http://127.0.0.1:4200/runs/flow-run/{run.id}",
    }


def test_old_flow_runs_are_found_page_by_page_and_deleted(prefect):
    ids = [uuid4() for _ in range(5)]
    server = prefect({run_id: SimpleNamespace(id=run_id) for run_id in ids})
    assert old_flow_runs(30) == ids
    age = datetime.now(UTC) - server.asked.end_time.before_
    assert timedelta(days=30) <= age < timedelta(days=30, minutes=5)
    delete_flow_runs([uuid4(), *ids[1:]])  # one that is gone already is no trouble
    assert list(server.flow_runs) == ids[:1]


def test_a_server_that_never_answers_is_named_without_its_password_and_not_asked_again(monkeypatch):
    monkeypatch.setattr("pipelines.orchestration.server.SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with (
            temporary_settings({PREFECT_API_URL: f"http://ada:hunter22@127.0.0.1:{port}/api"}),
            pytest.raises(InputError) as caught,
        ):
            check_server()
        assert str(caught.value).startswith(
            f"PREFECT_API_URL = http://***@127.0.0.1:{port}/api: no Prefect server answers there: "
        )
        listening.accept()[0].close()
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):  # there was one connection
            listening.accept()

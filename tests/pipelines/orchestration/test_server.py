"""Which flow runs and servers are left over, without a server: a stand-in answers in place of Prefect's."""

import contextlib
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import psutil
import pytest

from gee_core.errors import InputError
from pipelines.runtime.process_tree import process_key
from pipelines.tracking.pipeline_run import origin_tags

HERE = process_key(psutil.Process())
GONE = HERE.rsplit("/", 2)[0] + "/999999999/1"
ELSEWHERE = "elsewhere/999999999/1"


@pytest.fixture
def server():
    from pipelines.orchestration import server

    return server


def test_a_run_is_abandoned_once_its_process_is_gone_unless_that_was_on_another_machine(server):
    assert "its process 999999999 on " in server.why_abandoned(["mine", server.TAG + GONE])
    for key in (HERE, ELSEWHERE):
        assert server.why_abandoned([server.TAG + key]) is None
    assert server.why_abandoned(["mine"]) is None


def test_a_server_of_a_flow_that_is_gone_ends_and_no_other(server):
    code = "import sys\nprint('up', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", code, "prefect.server.api.server:create_app"]
    unnamed = {name: value for name, value in os.environ.items() if name != server.OWNER}
    with contextlib.ExitStack() as stack:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started = {
            name: stack.enter_context(subprocess.Popen(words, env=unnamed | env, **pipes))
            for name, words, env in (
                ("orphan", command, {server.OWNER: GONE}),
                ("its flow lives", command, {server.OWNER: HERE}),
                ("started by the user", command, {}),
                ("no server", command[:-1], {server.OWNER: GONE}),
            )
        }
        assert {process.stdout.readline() for process in started.values()} == {b"up\n"}
        assert server.end_orphaned_servers() == [started["orphan"].pid]
        assert [name for name, process in started.items() if process.poll() is not None] == ["orphan"]


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
        from prefect.exceptions import ObjectNotFound

        if run_id not in self.flow_runs:
            raise ObjectNotFound(None)
        del self.flow_runs[run_id]


@pytest.fixture
def prefect(server, monkeypatch):
    def make(*arguments) -> Prefect:
        stand_in = Prefect(*arguments)
        monkeypatch.setattr(server, "get_client", stand_in)
        monkeypatch.setattr(server, "end_orphaned_servers", lambda: [17])
        return stand_in

    return make


def test_runs_whose_process_is_gone_are_crashed_with_their_tasks_and_no_others(server, prefect, monkeypatch):
    from prefect.states import Completed, Running

    keys = {uuid4(): GONE, uuid4(): HERE}
    gone, alive = keys
    runs = {k: SimpleNamespace(id=k, name=f"run-{k}", tags=[server.TAG + key], state=Running()) for k, key in keys.items()}
    tasks = {(run, kind): SimpleNamespace(flow_run_id=run, state=kind()) for run in runs for kind in (Running, Completed)}
    for key, task_run in tasks.items():
        task_run.id = key
    told: list[str] = []
    monkeypatch.setattr(server, "notify", told.append)
    stand_in, heard = prefect(runs, tasks), []
    server.settle_abandoned(heard.append)
    assert [str(kind.value) for kind in stand_in.asked.state.type.any_] == ["RUNNING", "PENDING", "CANCELLING"]
    assert {run: found.state.type.value for run, found in runs.items()} == {gone: "CRASHED", alive: "RUNNING"}
    assert {key: task_run.state.type.value for key, task_run in tasks.items()} == {
        (gone, Running): "CRASHED",
        (gone, Completed): "COMPLETED",
        (alive, Running): "RUNNING",
        (alive, Completed): "COMPLETED",
    }
    assert heard[0] == "ended the server 17, left behind by a flow that was killed"
    assert heard[1].startswith(f"flow run run-{gone} is set to CRASHED: its process ")
    assert len(heard) == 2
    assert [text.startswith(f"flow run run-{gone} crashed: its process ") for text in told] == [True]


def test_an_attempt_that_repeats_another_has_the_tag_of_its_own_process_alone(server, prefect, monkeypatch):
    monkeypatch.setenv("GEE_FLOW_RUN", "")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    run = SimpleNamespace(id=uuid4(), name="lazy-owl", tags=["mine", server.TAG + ELSEWHERE])
    stand_in = prefect({run.id: run})
    server.claim(run, ["digits"])
    assert stand_in.flow_runs[run.id].tags == ["digits", server.TAG + HERE, "mine"]
    assert {tag: value for tag, value in origin_tags(Path.cwd()).items() if tag.startswith("prefect.")} == {
        "prefect.flow_run": "lazy-owl",
        "prefect.flow_run_id": str(run.id),
        "prefect.url": f"http://127.0.0.1:4200/runs/flow-run/{run.id}",
    }


def test_old_flow_runs_are_found_page_by_page_and_deleted(server, prefect):
    ids = [uuid4() for _ in range(5)]
    stand_in = prefect({run_id: SimpleNamespace(id=run_id) for run_id in ids})
    assert server.old_flow_runs(30) == ids
    age = datetime.now(UTC) - stand_in.asked.end_time.before_
    assert timedelta(days=30) <= age < timedelta(days=30, minutes=5)
    server.delete_flow_runs([uuid4(), *ids[1:]])  # one that is gone already is no trouble
    assert list(stand_in.flow_runs) == ids[:1]


def test_a_server_that_never_answers_is_named_without_its_password_and_not_asked_again(server, monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setattr(server, "SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with (
            temporary_settings({PREFECT_API_URL: f"http://ada:hunter22@127.0.0.1:{port}/api"}),
            pytest.raises(InputError, match=r"^PREFECT_API_URL = http://\*\*\*@127.0.0.1:\d+/api: no Prefect server answers"),
        ):
            server.check_server()
        listening.accept()[0].close()
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):  # there was one connection
            listening.accept()

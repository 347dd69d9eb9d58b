"""Which flow runs are left over, and who is told of them, without a server: a stand-in answers in place of Prefect's."""

import contextlib
import http.server
import json
import socket
import sys
import threading
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


class Prefect:
    """A server's flow runs and task runs, by id; `get_client` gives it."""

    def __init__(self, flow_runs: dict, task_runs: dict | None = None):
        self.flow_runs, self.task_runs = flow_runs, task_runs or {}

    def __call__(self, sync_client):
        return contextlib.nullcontext(self)

    def read_flow_runs(self, flow_filter, flow_run_filter):
        assert flow_filter.name.any_ == ["gee", "gee-study"]
        self.asked = flow_run_filter
        return list(self.flow_runs.values())

    def update_flow_run(self, run_id, tags):
        self.flow_runs[run_id].tags = tags

    def read_task_runs(self, flow_run_filter):
        return [run for run in self.task_runs.values() if run.flow_run_id in flow_run_filter.id.any_]

    def set_flow_run_state(self, run_id, state, force):
        self.flow_runs[run_id].state = state

    def set_task_run_state(self, run_id, state, force):
        self.task_runs[run_id].state = state


@pytest.fixture
def prefect(server, monkeypatch):
    def make(*arguments) -> Prefect:
        stand_in = Prefect(*arguments)
        monkeypatch.setattr(server, "get_client", stand_in)
        return stand_in

    return make


def test_runs_whose_process_is_gone_are_crashed_with_their_tasks_and_no_others(server, prefect, monkeypatch):
    from prefect.states import Completed, Running

    keys = {uuid4(): GONE, uuid4(): HERE, uuid4(): ELSEWHERE}
    gone, alive, elsewhere = keys
    runs = {k: SimpleNamespace(id=k, name=f"run-{k}", tags=[server.TAG + key], state=Running()) for k, key in keys.items()}
    tasks = {(run, kind): SimpleNamespace(flow_run_id=run, state=kind()) for run in runs for kind in (Running, Completed)}
    for key, task_run in tasks.items():
        task_run.id = key
    told: list[str] = []
    monkeypatch.setattr(server, "notify", told.append)
    stand_in, heard = prefect(runs, tasks), []
    server.settle_abandoned(heard.append)
    assert [str(kind.value) for kind in stand_in.asked.state.type.any_] == ["RUNNING", "PENDING", "CANCELLING"]
    ends = {gone: "CRASHED", alive: "RUNNING", elsewhere: "RUNNING"}
    assert {run: found.state.type.value for run, found in runs.items()} == ends
    of_tasks = {key: ends[key[0]] if key[1] is Running else "COMPLETED" for key in tasks}
    assert {key: task_run.state.type.value for key, task_run in tasks.items()} == of_tasks
    assert [line.startswith(f"flow run run-{gone} is set to CRASHED: its process ") for line in heard] == [True]
    assert [text.startswith(f"flow run run-{gone} crashed: its process ") for text in told] == [True]


def test_an_attempt_that_repeats_another_has_the_tag_of_its_own_process_alone(server, prefect, monkeypatch):
    monkeypatch.setenv("GEE_FLOW_RUN", "")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    run = SimpleNamespace(id=uuid4(), name="lazy-owl", tags=["mine", server.TAG + ELSEWHERE])
    stand_in = prefect({run.id: run})
    monkeypatch.setattr(server, "FlowRunContext", SimpleNamespace(get=lambda: SimpleNamespace(flow_run=run)))
    assert server.claim(["digits"]) is run
    assert stand_in.flow_runs[run.id].tags == ["digits", server.TAG + HERE, "mine"]
    assert {tag: value for tag, value in origin_tags(Path.cwd()).items() if tag.startswith("prefect.")} == {
        "prefect.flow_run": "lazy-owl",
        "prefect.flow_run_id": str(run.id),
        "prefect.url": f"http://127.0.0.1:4200/runs/flow-run/{run.id}",
    }


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


@pytest.fixture
def webhook():
    """A server that answers with ``status``; its address and the bodies that it got."""
    found = SimpleNamespace(bodies=[], status=200)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            found.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}/secret"
        yield found
        server.shutdown()
        thread.join()


def test_a_webhook_gets_the_message_without_passwords_and_its_refusal_stops_nothing(server, webhook, monkeypatch, caplog):
    monkeypatch.setenv("GEE_NOTIFY", webhook.url)
    monkeypatch.setenv("PREFECT_API_URL", "https://ada:hunter22@prefect.example/api")
    run = SimpleNamespace(id="1-2", name="eager-fox")
    server.on_end(SimpleNamespace(name="gee"), run, SimpleNamespace(name="Failed", message=f"hunter22 at {webhook.url}"))
    page = "https://prefect.example/runs/flow-run/1-2"
    assert webhook.bodies == [{"text": f"gee: flow run eager-fox failed: *** at *** ({page})"}]
    webhook.status = 404
    server.notify("again")
    assert "GEE_NOTIFY: no notification was sent (HTTPError)" in caplog.text
    assert "secret" not in caplog.text


def test_a_command_gets_the_message_as_its_last_argument(server, monkeypatch, tmp_path):
    script = tmp_path / "tell me.py"
    script.write_text("import pathlib, sys\npathlib.Path('told').write_text(repr(sys.argv[1:]))\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEE_NOTIFY", f'{sys.executable} "{script}" --to me')
    server.notify("it's $HOME; failed")
    assert eval((tmp_path / "told").read_text()) == ["--to", "me", "it's $HOME; failed"]


@pytest.mark.parametrize("target", ["no-such-command", "http://127.0.0.1:9/a secret", "a 'quote"])
def test_a_notification_that_fails_is_only_logged(target, server, monkeypatch, caplog):
    monkeypatch.setenv("GEE_NOTIFY", target)
    server.notify("a message")
    assert "GEE_NOTIFY: no notification was sent" in caplog.text
    assert "secret" not in caplog.text

import http.server
import json
import sys
import threading
from types import SimpleNamespace

import pytest

from pipelines.orchestration.notify import notify


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


def test_nobody_is_told_without_the_variable(monkeypatch):
    monkeypatch.delenv("GEE_NOTIFY", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("something was sent"))
    notify("a message")


def test_a_webhook_gets_the_message_without_passwords_and_its_refusal_stops_nothing(webhook, monkeypatch, caplog):
    from pipelines.orchestration.server import on_end

    monkeypatch.setenv("GEE_NOTIFY", webhook.url)
    monkeypatch.setenv("PREFECT_API_URL", "https://ada:hunter22@prefect.example/api")
    run = SimpleNamespace(id="1-2", name="eager-fox")
    on_end(SimpleNamespace(name="gee"), run, SimpleNamespace(name="Failed", message=f"hunter22 at {webhook.url}"))
    page = "https://prefect.example/runs/flow-run/1-2"
    assert webhook.bodies == [{"text": f"gee: flow run eager-fox failed: *** at *** ({page})"}]
    webhook.status = 404
    notify("again")
    assert "GEE_NOTIFY: the webhook answered 404" in caplog.text
    assert "secret" not in caplog.text


def test_a_command_gets_the_message_as_its_last_argument(monkeypatch, tmp_path):
    script = tmp_path / "tell me.py"
    script.write_text("import pathlib, sys\npathlib.Path('told').write_text(repr(sys.argv[1:]))\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEE_NOTIFY", f'{sys.executable} "{script}" --to me')
    notify("it's $HOME; failed")
    assert eval((tmp_path / "told").read_text()) == ["--to", "me", "it's $HOME; failed"]


@pytest.mark.parametrize(
    "target", ["no-such-command", "http://127.0.0.1:9/a secret", "a 'quote", f"{sys.executable} -c 1/0", "http://127.0.0.1:9/"]
)
def test_a_notification_that_fails_is_only_logged(target, monkeypatch, caplog):
    monkeypatch.setenv("GEE_NOTIFY", target)
    notify("a message")
    assert "GEE_NOTIFY: no notification was sent" in caplog.text
    assert "secret" not in caplog.text

import logging

import pytest

from pipelines.tracking import drain as drains
from pipelines.tracking.redact import bare, redact, redacted
from pipelines.tracking.tracker import Tracker
from tests.pipelines.tracking.conftest import drain

PASSWORD = "pä5s/w%rd"


@pytest.fixture
def secrets(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ada:hunter22@tracking.example:5000/mlflow?token=t0k3n-abc")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no answer from https://ada:hunter22@tracking.example/x", "no answer from https://***@tracking.example/x"),
        ("postgresql+psycopg2://u:p@ss@db:5432/mlflow is away", "postgresql+psycopg2://***@db:5432/mlflow is away"),
        ("http://only-a-token@host", "http://***@host"),
        ("GET /api?api_key=12345&x=1", "GET /api?api_key=***&x=1"),
        (f"login failed for {PASSWORD}", "login failed for ***"),
        ("header t0k3n-abc refused", "header *** refused"),
        ("hunter22", "***"),
        ("mail ada@example.org about loss 0.5", "mail ada@example.org about loss 0.5"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
    ],
)
def test_no_secret_is_shown_and_nothing_else_is_hidden(secrets, text, shown):
    assert redact(text) == shown


def test_the_secrets_of_prefect_and_the_address_of_a_webhook_are_hidden_but_not_the_name_of_a_command(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "https://ada:hunter22@prefect.example/api")
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_12345")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:open sesame")
    monkeypatch.setenv("GEE_NOTIFY", "https://hooks.example/T0/B0")
    assert redact("hunter22, pnu_12345, admin:open sesame, https://hooks.example/T0/B0") == "***, ***, ***, ***"
    monkeypatch.setenv("GEE_NOTIFY", "true")
    assert redact("flip is true") == "flip is true"


def test_a_secret_too_short_to_be_one_takes_no_number_apart(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://a:1@host")
    assert redact("0.111 at https://a:1@host") == "0.111 at https://***@host"


@pytest.mark.parametrize("password", ["open/sesame", "open#sesame", "open?sesame", "open%40sesame"])
@pytest.mark.parametrize("store", ["https://ada:{}@host", "postgresql+psycopg2://ada:{}@db:5432/mlflow?ssl=on"])
def test_a_password_with_signs_that_no_address_may_have_is_hidden_all_the_same(monkeypatch, password, store):
    uri = store.format(password)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    shown = [redact(f"{uri}: invalid"), redact(f"login with {password}"), redact(password.replace("%40", "@")), bare(uri)]
    assert not [text for text in shown if "sesame" in text]


@pytest.mark.parametrize(
    "uri", ["http://[::1", "https://a:sesame@[host", "://a:sesame@", "a?b@", "https://ada:op:en@sesame@host"]
)
def test_a_malformed_address_raises_nothing_and_shows_no_password(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert "sesame" not in bare(uri) + redact(f"no answer from {uri}")


def test_every_string_in_nested_values_is_redacted(secrets):
    values = {"a": ["hunter22", {"hunter22": 1.5}], "b": None, "c": True}
    assert redacted(values) == {"a": ["***", {"***": 1.5}], "b": None, "c": True}


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("https://ada:hunter22@host:5000/mlflow/?token=abc#x", "https://host:5000/mlflow"),
        ("https://host:5000/mlflow", "https://host:5000/mlflow"),
        ("sqlite:////tmp/mlflow.db?timeout=5", "sqlite:////tmp/mlflow.db"),
        ("databricks", "databricks"),
    ],
)
def test_an_address_has_neither_user_nor_token(uri, address):
    assert bare(uri) == address


def test_neither_the_outbox_nor_a_warning_nor_mlflow_holds_the_password(client, secrets, folder, caplog, capfd, monkeypatch):
    uri = "https://ada:hunter22@tracking.example:5000/mlflow?token=t0k3n-abc"
    with monkeypatch.context() as patch:
        patch.setattr(drains, "wait", lambda *_: None)
        tracker = Tracker("evolve", {"dataset": uri, "network": "vgg16", "n_genes": 6})
        tracker.params({"path": uri, uri: 1})
        tracker.tags({"note": f"logged in with {PASSWORD}"})
        tracker.candidate({"at": uri}, {"loss": 1.0}, uri, f"failed: {uri}", {"log.txt": f"{PASSWORD} {uri}"}, (0, 1))
        tracker.artifact(folder / "missing hunter22.csv")
        tracker.close()
    client.is_down = True
    with caplog.at_level(logging.INFO):
        drain()
    stored = b"".join(path.read_bytes() for path in (folder / ".scratch").rglob("*") if path.is_file())
    client.is_down = False
    drain()
    held = str([(run.info, run.data, run.files) for run in client.runs.values()])
    assert b"tracking.example" in stored and "tracking.example" in held
    for secret in ("hunter22", "t0k3n-abc", PASSWORD, "ada:"):
        assert secret.encode() not in stored
        assert secret not in held + caplog.text + "".join(capfd.readouterr())


def test_what_mlflow_itself_warns_of_is_redacted(secrets, monkeypatch, folder):
    from pipelines.tracking import mlflow_client

    mlflow_client.load()
    (handler, *_) = logging.getLogger("mlflow").handlers
    record = logging.LogRecord("mlflow.x", logging.WARNING, "", 1, "cannot reach %s", ("https://ada:hunter22@host",), None)
    assert handler.filter(record)
    assert record.getMessage() == "cannot reach https://***@host"

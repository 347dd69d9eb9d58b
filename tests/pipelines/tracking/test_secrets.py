import logging

import pytest

from pipelines.tracking import publish
from pipelines.tracking.tracker import Tracker
from tests.pipelines.tracking.conftest import candidate, publish_all

PASSWORD = "pä5s/w%rd"


@pytest.fixture
def secrets(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ada:hunter22@tracking.example:5000/mlflow?token=t0k3n-abc")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


def test_neither_the_files_nor_a_warning_nor_mlflow_holds_the_password(client, secrets, folder, caplog, capfd, monkeypatch):
    uri = "https://ada:hunter22@tracking.example:5000/mlflow?token=t0k3n-abc"
    tracker = Tracker("evolve", {"dataset": uri, "network": "vgg16", "n_genes": 6})
    tracker.params({"path": uri, uri: 1})
    tracker.tags({"note": f"logged in with {PASSWORD}"})
    run = candidate(uri).model_copy(update={"tags": {"status": uri}, "texts": {"log.txt": f"{PASSWORD} {uri}"}})
    tracker.child(uri, run)
    tracker.artifact(folder / "missing hunter22.csv")
    client.is_down = True
    monkeypatch.setattr(publish, "RETRY", 0.01)
    with caplog.at_level(logging.INFO):
        tracker.close("FAILED", f"no answer from {uri}")
    stored = b"".join(path.read_bytes() for path in (folder / ".scratch").rglob("*") if path.is_file())
    client.is_down = False
    publish_all()
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

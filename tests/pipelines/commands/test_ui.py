"""`gee ui`: a store or a port that cannot be used is one line; tests/test_servers.py starts the server."""

import socket

import pytest


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("http://ada:hunter22@127.0.0.1:1", "MLFLOW_TRACKING_URI = http://127.0.0.1:1: "),
        ("http://127.0.0.1:1?password=hunter22", "MLFLOW_TRACKING_URI = http://127.0.0.1:1: "),
        ("ftp://ada:hunter22@127.0.0.1", "MLFLOW_TRACKING_URI = ftp://127.0.0.1: "),
        (
            "postgresql+nodriver://ada:hunter22@127.0.0.1/mlflow",
            "MLFLOW_TRACKING_URI = postgresql+nodriver://127.0.0.1/mlflow: ",
        ),
        ("mysql://ada:hunter22@127.0.0.1/mlflow", "MLFLOW_TRACKING_URI = mysql://127.0.0.1/mlflow: "),
        ("sqlite:////proc/none/mlflow.db", ""),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line_without_its_password(uri, says, main, bare_project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    code, _, err = main("ui")
    (line,) = err.splitlines()
    assert code == 2 and line.startswith(f"gee: error: {says}") and "hunter22" not in line


def test_a_port_that_is_taken_or_none_is_one_message(main, bare_project):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert main("ui", "--port", port)[::2] == (
            2,
            f"gee: error: --port {port}: address already in use: name another --port\n",
        )
    for none in (99999, -1):
        assert main("ui", "--port", none)[0] == 2

import os
import signal

import pytest
from prefect.server.api.server import SubprocessASGIServer

from pipelines.orchestration.temporary_server import outlive_signals


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No server is known, and SIGHUP has its default handler."""
    monkeypatch.setattr(SubprocessASGIServer, "_instances", {})
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_prefect_starts_its_server_in_a_session_of_its_own(monkeypatch, tmp_path):
    (python := tmp_path / "python").write_text("#!/bin/sh\nexec sleep 600\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    outlive_signals()
    server = SubprocessASGIServer()._run_uvicorn_command()  # as Prefect's clients do
    try:
        assert os.getsid(server.pid) == server.pid
    finally:
        server.kill()
        server.wait()


def test_a_terminal_that_is_closed_ends_the_flow_as_sigterm_does():
    got = []
    signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    outlive_signals()
    signal.raise_signal(signal.SIGHUP)
    assert got == [signal.SIGTERM]


def test_nohup_keeps_its_meaning():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    outlive_signals()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

"""Every server that we tell people to start listens to this machine alone, as the temporary one of a flow (test_flow.py)."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.free_port import free_port

pytestmark = pytest.mark.slow
DOCS = Path(__file__).resolve().parents[1] / "docs"


def listening(process: psutil.Process) -> set[str]:
    """Addresses at which ``process`` and its children wait for others."""
    found = set()
    for member in [process, *process.children(recursive=True)]:
        try:
            found |= {c.laddr.ip for c in member.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        except psutil.NoSuchProcess:
            continue
    return found


def addresses(command: list[str], folder: Path, seconds: float = 600) -> set[str]:
    """Where ``command`` listens, once it does; it is ended with all that it started."""
    env = os.environ | {"PREFECT_HOME": str(folder / "prefect"), "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, *command], cwd=folder, env=env, **quiet)
    tree = psutil.Process(process.pid)
    try:
        end, found = time.monotonic() + seconds, set()
        while not found and process.poll() is None and time.monotonic() < end:
            time.sleep(0.5)
            found = listening(tree)
        return found
    finally:
        members = [*tree.children(recursive=True), tree] if tree.is_running() else []
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait(600)
        psutil.wait_procs(members, timeout=10)
        process.stdin.close()


def test_mlflow_as_the_tutorial_starts_it(tmp_path, monkeypatch):
    page = (DOCS / "tutorials/compare-candidates.md").read_text(encoding="utf-8")
    assert "    gee ui\n" in page
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("BROWSER", "true")
    assert addresses(["-m", "pipelines.cli", "ui", "--port", str(free_port())], tmp_path) == {"127.0.0.1"}


def test_prefect_as_the_page_of_operations_starts_it(tmp_path):
    assert "    prefect server start  " in (DOCS / "OPERATIONS.md").read_text(encoding="utf-8")
    command = ["-m", "prefect", "server", "start", "--port", str(free_port())]
    assert addresses(command, tmp_path) == {"127.0.0.1"}

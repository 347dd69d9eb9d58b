"""Every server that we tell people to start listens to this machine alone, as the temporary one of a flow (test_flow.py)."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.running import free_port, listening, running, wait_until

pytestmark = pytest.mark.slow
DOCS = Path(__file__).resolve().parents[1] / "docs"


@contextmanager
def served(command: list[str], folder: Path) -> Iterator[psutil.Popen]:
    """A module of Python that listens at this machine alone."""
    env = os.environ | {"PREFECT_HOME": str(folder / "prefect"), "PYTHONPATH": str(DOCS.parent)}
    with running([sys.executable, "-m", *command], folder / "server.log", cwd=folder, env=env) as server:
        wait_until(lambda: listening(server) or server.poll() is not None)
        assert listening(server) == {"127.0.0.1"}
        yield server


def test_mlflow_as_the_tutorial_starts_it_ends_with_all_its_processes(tmp_path, monkeypatch):
    page = (DOCS / "tutorials/compare-candidates.md").read_text(encoding="utf-8")
    assert "    gee ui\n" in page
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("BROWSER", "true")
    with served(["pipelines.cli", "ui", "--port", str(free_port())], tmp_path) as server:
        members = server.children(recursive=True)
        server.terminate()
        assert server.wait() == 143 and len(members) > 1
        assert not [member for member in members if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]


def test_prefect_as_the_page_of_operations_starts_it(tmp_path):
    assert "    prefect server start  " in (DOCS / "OPERATIONS.md").read_text(encoding="utf-8")
    command = ["prefect", "server", "start", "--port", str(free_port())]
    with served(command, tmp_path):
        pass

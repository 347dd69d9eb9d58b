"""Every server that we tell people to start listens to this machine alone, as the temporary one of a flow (test_flow.py)."""

import os
import sys
from pathlib import Path

import pytest

from tests.free_port import free_port
from tests.running import listening, running
from tests.wait_until import wait_until

pytestmark = pytest.mark.slow
DOCS = Path(__file__).resolve().parents[1] / "docs"


def addresses(command: list[str], folder: Path) -> set[str]:
    """Where a module of Python listens, once it does."""
    env = os.environ | {"PREFECT_HOME": str(folder / "prefect"), "PYTHONPATH": str(DOCS.parent)}
    with running([sys.executable, "-m", *command], folder / "server.log", cwd=folder, env=env) as server:
        wait_until(lambda: listening(server) or server.poll() is not None)
        return listening(server)


def test_mlflow_as_the_tutorial_starts_it(tmp_path, monkeypatch):
    page = (DOCS / "tutorials/compare-candidates.md").read_text(encoding="utf-8")
    assert "    gee ui\n" in page
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("BROWSER", "true")
    assert addresses(["pipelines.cli", "ui", "--port", str(free_port())], tmp_path) == {"127.0.0.1"}


def test_prefect_as_the_page_of_operations_starts_it(tmp_path):
    assert "    prefect server start  " in (DOCS / "OPERATIONS.md").read_text(encoding="utf-8")
    command = ["prefect", "server", "start", "--port", str(free_port())]
    assert addresses(command, tmp_path) == {"127.0.0.1"}

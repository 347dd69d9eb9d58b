"""A small project, its pipeline run once as a Prefect flow, the servers that show it, and a real browser."""

import contextlib
import shutil
import sqlite3
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.project_copy import SMALL, copy_project, environment, run
from tests.running import free_port, running

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""Nothing is asked of the network beyond this machine."""


class Site(NamedTuple):
    """Where the project's pages are."""

    project: Path
    mlflow: str
    prefect: str

    def runs(self, level: str) -> list[str]:
        """Ids in MLflow of the runs of a level, the earliest first."""
        with contextlib.closing(sqlite3.connect(self.project / "mlflow.db")) as store:
            tagged = "select run_uuid from tags where key = 'gee.level' and value = ?"
            query = f"select run_uuid from runs where run_uuid in ({tagged}) order by start_time"
            return [run_id for (run_id,) in store.execute(query, [level])]


def find_browser() -> str | None:
    """The path of an installed browser."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def server(project: Path, address: str, *command: str, **variables: str) -> AbstractContextManager:
    """Context in which ``command`` runs, once ``address`` answers."""

    def answers() -> bool:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=30).close()
            return True
        return False

    return running([*command], project.parent / "servers.log", answers, cwd=project, env=environment(**variables))


@pytest.fixture(scope="module")
def site(chromium, tmp_path_factory) -> Iterator[Site]:
    """The pages after one flow run, while the flow is served on a schedule."""
    project = tmp_path_factory.mktemp("browser") / "project"
    copy_project(project, SMALL | {"train": {"epochs": 3, "warmup_epochs": 1}})
    with serving(project) as found:
        yield found


@contextlib.contextmanager
def serving(project: Path) -> Iterator[Site]:
    """Run the pipeline of ``project`` as a flow, with the servers that show it."""
    python = [sys.executable, "-m"]
    gee = [*python, "pipelines.cli"]  # with the code of the copy, as the `gee` installed from there would be
    mlflow_port, prefect_port = str(free_port()), str(free_port())
    mlflow, prefect = f"http://127.0.0.1:{mlflow_port}", f"http://127.0.0.1:{prefect_port}"
    variables = {"PREFECT_HOME": str(project / ".prefect"), "PREFECT_API_URL": f"{prefect}/api", "GEE_TRACKING": "on"}
    store = ["--backend-store-uri", "sqlite:///mlflow.db", "--workers", "1", "--port", mlflow_port]
    with server(project, f"{prefect}/api/health", *python, "prefect", "server", "start", "--port", prefect_port, **variables):
        run(project, *gee, "flow", "run", **variables)
        deployed = f"{prefect}/api/deployments/name/gee/nightly"
        with (
            server(project, deployed, *gee, "flow", "serve", "--cron", "0 2 1 1 *", **variables),
            server(project, f"{mlflow}/health", *python, "mlflow", "server", *store),
        ):
            yield Site(project, mlflow, prefect)


@pytest.fixture(scope="module")
def chromium():
    """A browser without a window; what a page is to show may be two minutes late, as on a busy machine.

    It ends with the module: while it lives, its loop makes Prefect answer with coroutines.
    """
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=120_000)

    path = find_browser()
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET, chromium_sandbox=False)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A new page of 1,400 × 1,000 pixels, as patient."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(120_000)
    yield page
    context.close()

"""Before anything is imported: nothing is written outside temporary folders, nothing is reported, one thread each; Ctrl-C.

Hypothesis tries the same examples in every run, however long they take; `pytest --hypothesis-profile=default` tries others.
"""

import atexit
import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes background jobs and their children ignore it

_home = tempfile.mkdtemp(prefix="gee-tests-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)

logging.raiseExceptions = False  # MLflow's migrations leave a handler whose stream pytest has closed, and each error is printed

_SET_BY_USERS = {"PREFECT_API_URL", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME", "XDG_CONFIG_HOME"}
_CHANGE_OUTPUT = {"GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "NO_COLOR", "TTY_COMPATIBLE", "COLUMNS", "TERMINAL_WIDTH"}
_OF_A_GIT_HOOK = "GIT_"  # they would name another repository than the folder that a test works in
for _name in list(os.environ):
    if _name.startswith((_OF_A_GIT_HOOK, "GEE_")) and not _name.startswith("GEE_TEST_"):
        del os.environ[_name]
for _name in _SET_BY_USERS | _CHANGE_OUTPUT:
    os.environ.pop(_name, None)
os.environ.update(
    {
        "HOME": _home,
        "PREFECT_HOME": f"{_home}/prefect",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": f"{_home}/dvc",
        "GIT_CONFIG_NOSYSTEM": "1",
        "NO_PROXY": "*",  # servers of tests are on this machine
        "no_proxy": "*",
        "DO_NOT_TRACK": "true",
        "GEE_TRACKING": "off",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
)

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with every result of a small run, and its mlflow.db; copy it to change it."""
    from tests.made_once import made_once
    from tests.project_copy import finish_project

    return made_once(tmp_path_factory, "finished", lambda folder: finish_project(folder / "project")) / "project"


@pytest.fixture(scope="session")
def built_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the documentation's site, built without a warning."""
    from tests.made_once import made_once
    from tests.project_copy import ROOT, run

    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir"]
    return made_once(tmp_path_factory, "docs", lambda folder: run(ROOT, *command, str(folder / "site"))) / "site"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process is left alone with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end, so the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()

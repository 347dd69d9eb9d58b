"""Before anything is imported: nothing is written outside temporary folders, nothing is reported, one thread each.

Hypothesis tries the same examples in every run; `pytest --hypothesis-profile=default` tries others.
"""

import atexit
import os
import shutil
import tempfile

_home = tempfile.mkdtemp(prefix="gee-tests-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)

_SET_BY_USERS = {"PREFECT_API_URL", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME", "XDG_CONFIG_HOME"}
_OF_THE_TERMINAL = {"GITHUB_ACTIONS", "FORCE_COLOR", "PY_COLORS", "NO_COLOR", "COLUMNS", "TERMINAL_WIDTH"}  # typer, rich
_OF_A_GIT_HOOK = "GIT_"  # they would name another repository than the folder that a test works in
for _name in list(os.environ):
    _of_gee_or_git = _name.startswith((_OF_A_GIT_HOOK, "GEE_")) and not _name.startswith("GEE_TEST_")
    if _of_gee_or_git or _name in _SET_BY_USERS | _OF_THE_TERMINAL:
        del os.environ[_name]
os.environ.update(
    {
        "HOME": _home,
        "GIT_CONFIG_NOSYSTEM": "1",
        "NO_PROXY": "*",
        "no_proxy": "*",
        "PREFECT_HOME": f"{_home}/prefect",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": f"{_home}/dvc",
        "DO_NOT_TRACK": "true",
        "GEE_TRACKING": "off",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
)

from hypothesis import settings  # noqa: E402

settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")

"""Prefect's settings for this project. Prefect reads the environment when it is imported, so this is imported before it."""

import os

import psutil

from pipelines.orchestration.crashed_flows import OWNER
from pipelines.project.paths import find_project
from pipelines.runtime.process_tree import process_key

DEFAULTS = {
    "PREFECT_HOME": str(find_project() / ".prefect"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "DO_NOT_TRACK": "true",
}
"""The settings of prefect.toml, which Prefect reads only if it is started in the project folder."""
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)
os.environ[OWNER] = process_key(psutil.Process())

"""The pipeline and studies as Prefect flows.

Prefect reads its settings from the environment when it is imported, so they are set here, before any module of this package is.
"""

import os

from pipelines.project.paths import find_project

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

"""Which MLflow is written to, and what is written through its client, but for models.

mlflow is imported inside functions, because that takes seconds.
"""

import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from gee_core.errors import InputError
from pipelines.project.paths import SCRATCH, find_project, original_project
from pipelines.tracking.experiment_page import EXPERIMENT_ID, EXPERIMENT_TAGS, VIEW
from pipelines.tracking.moved_store import ARTIFACTS, follow, own_database
from pipelines.tracking.redact import URI, bare, redact

SQLITE = "sqlite:///"

MAKING = SCRATCH / "mlflow"
"""Where a new sqlite file is made, in a folder of its own, before it is moved to its place."""

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Set unless the user has set them: no telemetry, no retries (`delivery` retries), no bars and lines for what is written."""

REFUSALS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
"""Error codes of a store for which a retry would fail again."""

LONGEST_PARAM, LONGEST_TAG = 6000, 8000
"""Characters that a store keeps of a value."""


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, by default that of mlflow.db; a relative path of a sqlite file is one in the project folder.

    In one of DVC's temporary copies, which DVC deletes, it is one in the original project.

    Raises:
        InputError: it is a folder, and the installed MLflow refuses those.
    """
    uri = os.environ.get(URI) or f"{SQLITE}mlflow.db"
    if ":" not in uri or uri.startswith("file:"):
        _check_folder(uri)
    return f"{SQLITE}{_home() / uri.removeprefix(SQLITE)}" if uri.startswith(SQLITE) else uri


def _check_folder(uri: str) -> None:
    load()
    import mlflow
    from mlflow import environment_variables
    from mlflow.utils.uri import is_local_uri

    allowed = getattr(environment_variables, "MLFLOW_ALLOW_FILE_STORE", None)  # older versions take folders
    if is_local_uri(uri) and allowed is not None and not allowed.get():
        raise InputError(f"{URI} = {bare(uri)}: a folder, which MLflow {mlflow.__version__} refuses", "write sqlite:///FILE")


def is_local(uri: str) -> bool:
    """Whether the store is a file: slow at first, but always reachable."""
    return uri.startswith(("sqlite:", "file:"))


def artifact_location(uri: str) -> str | None:
    """Where a new experiment keeps its files: beside mlflow.db, or None to let the server decide."""
    return None if uri.startswith("http") else (_home() / ARTIFACTS).as_uri()


def _home() -> Path:
    return original_project(find_project())


def load() -> None:
    """Import mlflow and reduce its logging to redacted warnings."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401

    for library in ("mlflow", "alembic"):
        logger = logging.getLogger(library)
        logger.setLevel(logging.WARNING)
        for handler in logger.handlers:
            if _redact_record not in handler.filters:
                handler.addFilter(_redact_record)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs, with tracebacks, what it raises as well


def connect(uri: str) -> Any:
    """A client of ``uri``; a missing sqlite file is created, so callers hold a lock: two processes must not do it at once.

    Raises:
        InputError: the project was moved, and its mlflow.db cannot follow it.
    """
    load()
    from mlflow import MlflowClient

    if uri.startswith(SQLITE) and "?" not in uri and not (path := Path(uri.removeprefix(SQLITE))).exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_workplace(path), prefix=".mlflow-") as folder:
            # Made elsewhere first: a file that a kill leaves half made could not be repaired.
            MlflowClient(f"{SQLITE}{folder}/new.db").search_experiments(max_results=1)
            os.replace(f"{folder}/new.db", path)
    elif uri == f"{SQLITE}{own_database()}":
        follow(own_database())
    return MlflowClient(uri, registry_uri=uri)


def _workplace(store: Path) -> Path:
    """The folder in which ``store`` is made, on its file system; what a kill has left in MAKING is deleted.

    It is MAKING, which git ignores and `gee gc` empties, if the store lies in the project; otherwise the store's own.
    """
    place = _home() / MAKING
    if not store.is_relative_to(_home()):
        return store.parent
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True, exist_ok=True)
        return place if place.stat().st_dev == store.parent.stat().st_dev else store.parent
    except OSError:  # .scratch cannot be written to
        return store.parent


def _redact_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = redact(record.getMessage()), ()
    return True


def is_refusal(error: Exception) -> bool:
    """Whether the store refuses an entry for good; otherwise it was not reachable, and the entry is retried."""
    import requests
    from mlflow.exceptions import MlflowException

    if isinstance(error, requests.RequestException):
        return error.response is not None and error.response.status_code in (400, 413)
    if isinstance(error, MlflowException):  # "API request to …": a proxy answered, not MLflow
        return error.error_code in REFUSALS and not str(error).startswith("API request to")
    refused = FileNotFoundError | ValueError | TypeError | LookupError | AttributeError
    return isinstance(error, refused) and not isinstance(error, InputError)


def find_experiment(client, name: str, uri: str) -> str:
    """Id of the experiment ``name``, which is made if it is new. Tags of EXPERIMENT_TAGS that it lacks are set.

    So are views that an earlier version has made; the description may be the user's.

    Raises:
        InputError: it was deleted, which only the user can undo.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment and experiment.lifecycle_stage == "deleted":
        raise InputError(
            f"the experiment {name} is deleted in MLflow",
            f"restore it with `mlflow experiments restore -x {experiment.experiment_id}`, "
            f"or set MLFLOW_EXPERIMENT_NAME to another for later runs",
        )
    found = experiment.experiment_id if experiment else client.create_experiment(name, artifact_location(uri))
    known = experiment.tags if experiment else {}
    for tag, value in EXPERIMENT_TAGS.items():
        if tag not in known or (tag.startswith(VIEW) and known[tag] != value):
            client.set_experiment_tag(found, tag, value.replace(EXPERIMENT_ID, found))
    return found


def log_dataset(client, run_id: str, dataset: dict[str, str], context: str) -> None:
    """Make a data set an input of a run, unless it is one. ``dataset``: the arguments of MLflow's Dataset."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    client.log_inputs(run_id, [DatasetInput(Dataset(**dataset), [InputTag("mlflow.data.context", context)])])


def log_batch(
    client, run_id: str, params: dict, metrics: dict[str, float], tags: dict, step: int = 0, timestamp: int = 0
) -> None:
    """Log any number of each; ``timestamp`` in ms. Characters that MLflow refuses in names are replaced, long values cut."""
    from mlflow.entities import Metric, Param, RunTag

    params = [Param(key, value) for key, value in stored_params(params).items()]
    metrics = [Metric(_allowed(key), value, timestamp, step) for key, value in metrics.items()]
    tags = [RunTag(_allowed(key), str(value)[:LONGEST_TAG]) for key, value in tags.items()]
    for start in range(0, max(map(len, (params, metrics, tags))), 100):  # the store accepts at most 100 at once
        part = slice(start, start + 100)
        client.log_batch(run_id, metrics[part], params[part], tags[part])


def stored_params(params: dict) -> dict[str, str]:
    """``params`` as MLflow keeps them: characters that it refuses in names are replaced, long values cut."""
    return {_allowed(key): str(value)[:LONGEST_PARAM] for key, value in params.items()}


def _allowed(name: str) -> str:
    return re.sub(r"[^\w.\- :/]", "-", name)

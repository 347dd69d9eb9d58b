"""Which MLflow is written to, and what is written through its client, but for models.

mlflow is imported inside functions, because that takes seconds.
"""

import logging
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlparse

from gee_core.errors import InputError
from pipelines.project.paths import find_project, original_project
from pipelines.tracking.entries import in_microjoules
from pipelines.tracking.experiment_page import EXPERIMENT_ID, EXPERIMENT_TAGS, VIEW
from pipelines.tracking.redact import URI, bare, redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

Client: TypeAlias = "MlflowClient"

SQLITE = "sqlite:///"

ARTIFACTS = "mlartifacts"
"""The folder of artifacts beside a project's mlflow.db."""

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Set unless the user has set them: no telemetry, no retries (the drain retries), no bars and lines for what is written."""

REFUSALS = ("BAD_REQUEST", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST")
"""Error codes of a store for which a retry would fail again."""


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, by default that of mlflow.db; a relative path of a sqlite file is one in the project folder.

    In one of DVC's temporary copies, which DVC deletes, it is one in the original project.

    Raises:
        InputError: it is a folder, which MLflow refuses.
    """
    uri = os.environ.get(URI) or f"{SQLITE}mlflow.db"
    is_folder = uri.startswith("file:") or (":" not in uri and not uri.startswith("databricks"))
    if is_folder and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
        raise InputError(f"{URI} = {bare(uri)}: a folder, which MLflow {version('mlflow')} refuses", "write sqlite:///FILE")
    return f"{SQLITE}{_home() / uri.removeprefix(SQLITE)}" if uri.startswith(SQLITE) else uri


def is_local(uri: str) -> bool:
    """Whether the store is a file."""
    return uri.startswith(("sqlite:", "file:"))


def _home() -> Path:
    return original_project(find_project())


def check_place() -> None:
    """Check that the files of the project's own mlflow.db lie in this folder.

    Raises:
        InputError: the project was moved or copied, and MLflow's absolute addresses still lead to its former folder.
    """
    here = _home()
    database = here / "mlflow.db"
    if os.environ.get(URI) or not database.is_file():
        return
    query = f"select artifact_location from experiments where artifact_location like 'file:///%/{ARTIFACTS}'"
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            places = [Path(unquote(urlparse(address).path)).parent for (address,) in connection.execute(query)]
    except sqlite3.Error:  # MLflow says what is wrong with it
        return
    for place in places:
        if not place.exists() or ((place / database.name).exists() and not place.samefile(here)):
            problem = f"{database}: this project was moved or copied from {place}, where MLflow's addresses of files still lead"
            raise InputError(problem, f"move it back, or move {database.name} away, and the next run makes a new one")


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


def connect(uri: str) -> Client:
    """A client of ``uri``; a missing sqlite file is created, which two processes must not do at once. See `check_place`."""
    load()
    from mlflow import MlflowClient

    check_place()
    if uri.startswith(SQLITE) and "?" not in uri and not (path := Path(uri.removeprefix(SQLITE))).exists():
        folder = path.with_name(f"{path.name}.new")  # made there first: a file that a kill leaves half made cannot be repaired
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        new = folder / f"{time.time_ns()}.db"  # MLflow remembers the names that it has made
        MlflowClient(f"{SQLITE}{new}").search_experiments(max_results=1)
        os.replace(new, path)
        shutil.rmtree(folder, ignore_errors=True)
    return MlflowClient(uri, registry_uri=uri)


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


def reason(error: Exception) -> str:
    """``error`` on one line, without secrets; of what the user can mend, and of a database, its words alone."""
    error = getattr(error.__cause__, "orig", None) or error  # SQLAlchemy wraps these in the statement and its parameters
    text = redact(" ".join(str(error).split()))
    if isinstance(error, InputError):
        return text
    return f"{type(error).__name__}: {text if len(text) <= 160 else text[:159] + '…'}"


def find_experiment(client: Client, name: str, uri: str) -> str:
    """Id of the experiment ``name``, which is made if it is new. It gets the views, and if it has none the description.

    Raises:
        InputError: it was deleted, which only the user can undo.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment and experiment.lifecycle_stage == "deleted":
        restore = f"restore it with `mlflow experiments restore -x {experiment.experiment_id}`"
        remedy = f"{restore}, or set MLFLOW_EXPERIMENT_NAME to another for later runs"
        raise InputError(f"the experiment {name} is deleted in MLflow", remedy)
    place = None if uri.startswith("http") else (_home() / ARTIFACTS).as_uri()  # a server decides by itself
    found: str = experiment.experiment_id if experiment else client.create_experiment(name, place)
    known = experiment.tags if experiment else {}
    for tag, value in EXPERIMENT_TAGS.items():
        if tag not in known or (tag.startswith(VIEW) and known[tag] != value):
            client.set_experiment_tag(found, tag, value.replace(EXPERIMENT_ID, found))
    return found


def search_runs(client: Client, experiment_id: str, query: str) -> list[Any]:
    """All runs that match ``query``, from every page of the answer."""
    page = client.search_runs([experiment_id], query, max_results=1000)
    runs: list[Any] = list(page)
    while page.token:
        page = client.search_runs([experiment_id], query, max_results=1000, page_token=page.token)
        runs += page
    return runs


def log_dataset(client: Client, run_id: str, dataset: dict[str, str], context: str) -> None:
    """Make a data set an input of a run, unless it is one. ``dataset``: the arguments of MLflow's Dataset."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    client.log_inputs(run_id, [DatasetInput(Dataset(**dataset), [InputTag("mlflow.data.context", context)])])


def log_batch(
    client: Client,
    run_id: str,
    params: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    step: int = 0,
    timestamp: int = 0,
) -> None:
    """Log any number of each, energies in µJ; ``timestamp`` in ms. Characters that MLflow refuses are replaced, texts cut."""
    from mlflow.entities import Metric, Param, RunTag

    of_params = [Param(_allowed(key), value[:6000]) for key, value in (params or {}).items()]
    of_metrics = [Metric(_allowed(key), value, timestamp, step) for key, value in in_microjoules(metrics or {}).items()]
    of_tags = [RunTag(_allowed(key), value[:8000]) for key, value in (tags or {}).items()]
    for start in range(0, max(len(of_params), len(of_metrics), len(of_tags)), 100):  # the store accepts at most 100 at once
        part = slice(start, start + 100)
        client.log_batch(run_id, of_metrics[part], of_params[part], of_tags[part])


def _allowed(name: str) -> str:
    return re.sub(r"[^\w.\- :/]", "-", name)

"""Which MLflow is written to, and what is written through its client, but for models.

mlflow is imported inside functions, because that takes seconds.
"""

import logging
import math
import os
import re
import shutil
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import unquote, urlparse

from gee_core.errors import InputError
from pipelines.project.paths import find_project, original_project
from pipelines.runtime.redact import URI, bare, redact
from pipelines.tracking.experiment_page import EXPERIMENT_ID, EXPERIMENT_TAGS, VIEW

if TYPE_CHECKING:
    from mlflow import MlflowClient, entities

Client: TypeAlias = "MlflowClient"
Run: TypeAlias = "entities.Run"
RunData: TypeAlias = "entities.RunData"

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
"""Set unless the user has set them: no telemetry, no retries (the publisher retries), no bars and lines for each file."""

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


def _check_place(location: str) -> None:
    """Refuse the project's own mlflow.db where MLflow's absolute addresses lead to a former folder of the project."""
    here, place = _home(), Path(unquote(urlparse(location).path))
    if os.environ.get(URI) or not location.startswith("file:///") or place.name != ARTIFACTS:
        return
    former, database = place.parent, here / "mlflow.db"
    if not former.exists() or ((former / database.name).exists() and not former.samefile(here)):
        problem = f"{database}: this project was moved or copied from {former}, where MLflow's addresses of files still lead"
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
    """A client of ``uri``; a missing sqlite file is created, which two processes must not do at once."""
    load()
    from mlflow import MlflowClient

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
    """Whether the store refuses a call for good; otherwise it was not reachable, and the call is retried."""
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
    text = redact(" ".join(str(error).split())).partition(" [SQL: ")[0]
    if isinstance(error, InputError):
        return text
    return f"{type(error).__name__}: {text if len(text) <= 160 else text[:159] + '…'}"


def open_store(name: str) -> tuple[str, Client, str]:
    """The address of MLflow, a client of it, and the id of the experiment ``name``, for a person who waits for it.

    Raises:
        InputError: MLflow cannot be reached or used; on one line, without secrets.
    """
    uri = tracking_uri()
    try:
        client = connect(uri)
        return uri, client, find_experiment(client, name, uri)
    except InputError:
        raise
    except Exception as error:  # of MLflow, its HTTP client, a database, or its driver
        remedy = f"start the server, or correct {URI}"
        raise InputError(f"{URI} = {bare(uri)}: cannot be used ({reason(error)})", remedy) from None


def find_experiment(client: Client, name: str, uri: str) -> str:
    """Id of the experiment ``name``, which is made if it is new. It gets the views, and if it has none the description.

    Raises:
        InputError: it was deleted, or the project was moved or copied, which only the user can undo.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment:
        _check_place(experiment.artifact_location)
    if experiment and experiment.lifecycle_stage == "deleted":
        restore = f"restore it with `mlflow experiments restore -x {experiment.experiment_id}`"
        remedy = f"{restore}, or set MLFLOW_EXPERIMENT_NAME to another for later runs"
        raise InputError(f"the experiment {name} is deleted in MLflow", remedy)
    place = None if uri.startswith("http") else (_home() / ARTIFACTS).as_uri()  # a server decides by itself
    experiment_id: str = experiment.experiment_id if experiment else client.create_experiment(name, place)
    known = experiment.tags if experiment else {}
    for tag, value in EXPERIMENT_TAGS.items():
        if tag not in known or (tag.startswith(VIEW) and known[tag] != value):
            client.set_experiment_tag(experiment_id, tag, value.replace(EXPERIMENT_ID, experiment_id))
    return experiment_id


def search_runs(client: Client, experiment_id: str, query: str) -> list[Run]:
    """All runs that match ``query``, from every page of the answer."""
    runs, token = list[Run](), None
    while token is None or token:
        page = client.search_runs([experiment_id], query, max_results=1000, page_token=token)
        runs, token = [*runs, *page], page.token or ""
    return runs


def log_dataset(client: Client, run_id: str, context: str, dataset: dict[str, str]) -> None:
    """Make a data set an input of a run, unless it is one. ``dataset``: the arguments of MLflow's Dataset."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    client.log_inputs(run_id, [DatasetInput(Dataset(**dataset), [InputTag("mlflow.data.context", context)])])


def log_batch(
    client: Client,
    run_id: str,
    params: Mapping[str, str] = {},
    tags: Mapping[str, str] = {},
    metrics: Mapping[str, float] = {},
    time: int = 0,
    step: int = 0,
) -> None:
    """Log any number of each; metrics `as_stored`. Characters that MLflow refuses in names are replaced, and texts cut."""
    from mlflow.entities import Metric, Param, RunTag

    all_params = [Param(_allowed(key), value[:6000]) for key, value in params.items()]
    all_tags = [RunTag(_allowed(key), value[:8000]) for key, value in tags.items()]
    all_metrics = [Metric(key, value, time, step) for key, value in metrics.items()]
    for start in range(0, max(len(all_params), len(all_metrics), len(all_tags)), 100):  # the store accepts at most 100 at once
        part = slice(start, start + 100)
        client.log_batch(run_id, all_metrics[part], all_params[part], all_tags[part])


def as_stored(metrics: Mapping[str, float]) -> dict[str, float]:
    """The finite ``metrics``, since the store would keep NaN as 0, under names that MLflow takes.

    ``energy_mj`` becomes ``energy_uj``, since MLflow's pages show few digits.
    """
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    in_uj = {f"{name[:-3]}_uj": float(f"{1000 * mJ:.5g}") for name, mJ in finite.items() if name.endswith("_mj")}
    return {_allowed(name): value for name, value in finite.items() if not name.endswith("_mj")} | in_uj


def _allowed(name: str) -> str:
    return re.sub(r"[^\w.\- :/]", "-", name)

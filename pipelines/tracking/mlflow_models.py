"""What needs MLflow's classes for models. mlflow is imported inside functions, because that takes seconds."""

import base64
import importlib.metadata
import json
import re
import shutil
from pathlib import Path
from typing import Any

from gee_core.errors import InputError, in_short
from pipelines.tracking import mlflow_client
from pipelines.tracking.dataset import TEST
from pipelines.tracking.entries import OTHERS, ExportedModel
from pipelines.tracking.mlflow_client import Client
from pipelines.tracking.redact import bare, redact

SERVED, CLASSIFIER = (Path(__file__).with_name(f"{name}.py") for name in ("served_model", "classifier"))

PACKAGES = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")
"""All that a served model needs."""

DESCRIPTION = "Exported spiking networks: `champion` is the best on its images, `challenger` the newest that is not better."
"""Of a registered model."""

MODEL_VERSIONS = "mlflow.modelVersions"
"""MLflow's own tag of a logged model: its registered versions, which the page of the model shows."""


def save_served_model(files: dict[str, Path], folder: str, run_id: str, model_id: str) -> None:
    """Write an exported model's ``files``, by their names, as a model that MLflow can serve, to ``folder``.

    `mlflow.pyfunc.load_model` gives the classifier of images, `mlflow.onnx.load_model` the network in it.
    """
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, DataType, Map, Schema

    from gee_core.data import pixels

    answer: dict[str, DataType | Map] = {
        "class": DataType.string,
        "probability": DataType.double,
        "probabilities": Map(DataType.double),
    }
    image = base64.b64encode(files["example.png"].read_bytes()).decode()
    model = Model(run_id=run_id, model_uuid=model_id, model_id=model_id)
    model.add_flavor("onnx", onnx_version=importlib.metadata.version("onnx"), data="artifacts/network.onnx")
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(SERVED),
        artifacts={"network": str(files["network.onnx"]), "meta": str(files["meta.json"])}
        | {"pixels": pixels.__file__, "classifier": str(CLASSIFIER)},
        mlflow_model=model,
        signature=ModelSignature(
            inputs=Schema([ColSpec(AnyType(), "image")]),
            outputs=Schema([ColSpec(kind, name) for name, kind in answer.items()]),
        ),
        input_example={"image": [image]},
        pip_requirements=[f"{package}=={importlib.metadata.version(package)}" for package in PACKAGES],
    )
    for name in {"README.md", "example.png", *OTHERS} & set(files):
        shutil.copy(files[name], folder)


def download_model(address: str, folder: str) -> Path:
    """Download the model at ``address``, such as ``models:/NAME@ALIAS``, to ``folder``; the path of its ONNX file.

    Raises:
        InputError: the address lacks a part; MLflow cannot be reached or does not have the model, its files are missing, or it
            is none that ``save_served_model`` wrote.
    """
    _check_form(address)
    uri = mlflow_client.tracking_uri()
    if uri.startswith(mlflow_client.SQLITE) and not Path(uri.removeprefix(mlflow_client.SQLITE).partition("?")[0]).exists():
        raise InputError(f"{address}: there is no {bare(uri)}", "`gee run` makes it, or set MLFLOW_TRACKING_URI")
    mlflow_client.check_place()
    mlflow_client.load()
    from mlflow.artifacts import download_artifacts

    try:
        path = Path(download_artifacts(artifact_uri=address, dst_path=folder, tracking_uri=uri, registry_uri=uri))
    except Exception as error:  # of MLflow, of its HTTP client, or of whatever stores the files
        remedy = "`mlflow server` shows which models there are; MLFLOW_TRACKING_URI names another server"
        raise InputError(f"{address}: cannot be read from {bare(uri)} ({redact(in_short(error))})", remedy) from None
    network = path / "artifacts" / "network.onnx"
    for file in (network, network.with_name("meta.json")):
        if not file.is_file():
            problem = f"{address}: has no {file.relative_to(path)} in {bare(uri)}"
            raise InputError(problem, "restore it from a backup, or name a model that stage export logged")
    return network


def _check_form(address: str) -> None:
    """Raise InputError for a model without a version, which MLflow takes for an id of its own, or a run without a model."""
    scheme, _, rest = address.partition(":/")
    rest = rest.strip("/")
    if scheme == "models" and re.fullmatch(r"(?!m-[0-9a-f]{32}$)[^/@]+", rest):
        raise InputError(f"{address}: names no version", f"write models:/{rest}@champion or models:/{rest}/VERSION")
    if scheme == "runs" and "/" not in rest:
        raise InputError(f"{address}: names no model of the run", f"write runs:/{rest or 'RUN'}/NAME")


def link_model(client: Client, run_id: str, model_id: str) -> None:
    """Make a logged model an output of a run, unless it is one."""
    from mlflow.entities import LoggedModelOutput

    outputs = client.get_run(run_id).outputs
    if model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def log_model_metrics(client: Client, run_id: str, model_id: str, model: ExportedModel, time: int) -> None:
    """Log the metrics of a model as measured on its images, so that searches can rank models."""
    from mlflow.entities import Metric

    of = model_id, model.dataset, model.digest + TEST
    client.log_batch(run_id, [Metric(name, value, time, 0, *of) for name, value in model.metrics.items()])


def holders(client: Client, name: str) -> dict[str, Any]:
    """The versions of the registered model ``name`` by their aliases; registers the name if it is new."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=DESCRIPTION)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    aliases = client.get_registered_model(name).aliases
    return {alias: client.get_model_version(name, version) for alias, version in aliases.items()}


def note_version(client: Client, model: Any, version: Any) -> None:
    """Let the page of a logged model show its registered version, which a server does by itself and a local store does not."""
    if MODEL_VERSIONS not in client.get_logged_model(model.model_id).tags:
        value = json.dumps([{"name": version.name, "version": int(version.version)}])
        client.set_logged_model_tags(model.model_id, {MODEL_VERSIONS: value})

"""Writes exported models to MLflow and its registry, and reads them. mlflow is imported inside functions: that takes seconds.

Of the versions of a registered name, the alias `champion` marks the best that was measured on the same images, `challenger` the
newest that is not better than it, and MLflow's own `latest` the newest. The first version is the champion.
"""

import base64
import importlib.metadata
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gee_core.errors import InputError, in_short
from gee_core.export.model_card import ModelCard
from pipelines.runtime.redact import bare, redact
from pipelines.runtime.run_files import ExportedModel
from pipelines.tracking import mlflow_client
from pipelines.tracking.mlflow_client import Client, as_stored
from pipelines.tracking.pipeline_run import TEST
from pipelines.tracking.tags import ALIAS, BASE, DIGEST, ENTRY, METRICS, NOTE, REASON, TRACKED

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

FILES = ("network.onnx", "meta.json", "README.md", "example.png")
"""The files of an exported model."""

OTHERS = ("network.nir", "genes.safetensors", "network.update")
"""Further files of a model: if NIR can express the network, if `export.genes` names a format, if it is an update of a base."""

RANKINGS = ("update_holdout_accuracy", "test_accuracy")
"""The best model of a name by the first of these that was measured is the champion."""

SERVED, CLASSIFIER = (Path(__file__).with_name(f"{name}.py") for name in ("served_model", "classifier"))


def write_model(
    client: Client, experiment_id: str, run_id: str, pipeline_id: str, exported: ExportedModel, folder: Path, key: str
) -> str | None:
    """Log a model with its metrics and its files in ``folder``, and register it if it says so; returns what became of it.

    It is an output of the stage's run ``run_id`` and of the pipeline's, in whose row MLflow shows it.
    """
    from mlflow.entities import LoggedModelOutput, Metric

    files = {name: folder / name for name in (*FILES, *OTHERS) if (folder / name).is_file()}
    models = client.search_logged_models([experiment_id], f"tags.`{ENTRY}` = '{key}'")
    if models:
        model = models[0]
    else:
        card = files["README.md"].read_text(encoding="utf-8").split("\n---\n", 1)[-1]  # without what the Hugging Face hub reads
        note = f"test_accuracy {_shown(exported.metrics.get(RANKINGS[-1]))}\n\n{card.lstrip()}"
        note = note[:5000]  # what MLflow's databases other than SQLite take
        tags = {ENTRY: key, DIGEST: exported.digest, NOTE: note}
        about = tags, exported.params
        model = client.create_logged_model(experiment_id, exported.name, pipeline_id, *about, model_type="classifier")
    if str(model.status) != "READY":
        with tempfile.TemporaryDirectory() as temporary:
            save_served_model(files, f"{temporary}/model", pipeline_id, model.model_id)
            client.log_model_artifacts(model.model_id, f"{temporary}/model")
        client.finalize_logged_model(model.model_id, "READY")
    for output_of in dict.fromkeys((run_id, pipeline_id)):
        outputs = client.get_run(output_of).outputs
        if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
            client.log_outputs(output_of, [LoggedModelOutput(model.model_id, step=0)])
    images = model.model_id, exported.dataset, exported.digest + TEST  # so that searches can rank models
    metrics = as_stored(exported.metrics).items()
    client.log_batch(run_id, [Metric(name, value, exported.time, 0, *images) for name, value in metrics])
    return _register(client, pipeline_id, model, exported, key) if exported.is_registered else None


def _register(client: Client, run_id: str, model: "LoggedModel", exported: ExportedModel, key: str) -> str:
    name, holders = exported.name, _holders(client, exported.name)
    versions = [v for v in client.search_model_versions(f"name = '{name}'") if v.tags.get(ENTRY) == key]
    if versions:
        version = versions[0]
    else:
        alias, reason = rank(exported, holders.get("champion"))
        tags = {ALIAS: alias, REASON: reason, DIGEST: exported.digest, METRICS: json.dumps(exported.metrics)}
        tags |= {TRACKED: str(exported.time), ENTRY: key} | ({BASE: exported.base} if exported.base else {})
        # Not models:/ID, which a local store would look up at MLflow's global address, in DVC's temporary copies a wrong one.
        version = client.create_model_version(name, model.artifact_location, run_id, tags, model_id=model.model_id)
    # the README was written before the version had a number, and the champion may be another network
    note = model.tags[NOTE].replace(f"models:/{name}@champion", f"models:/{name}/{version.version}")
    client.update_model_version(name, version.version, note)
    # the versions that the page of the model shows; a server sets this tag by itself, a local store does not
    shown = json.dumps([{"name": name, "version": int(version.version)}])
    client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": shown})
    alias, holder = version.tags[ALIAS], holders.get(version.tags[ALIAS])
    if holder is None or int(holder.tags.get(TRACKED, 0)) <= exported.time:
        client.set_registered_model_alias(name, alias, version.version)
    return f"{name} version {version.version} is {alias}: {version.tags[REASON]}"


def rank(exported: ExportedModel, champion: "ModelVersion | None") -> tuple[str, str]:
    """The alias that a model gets next to the present ``champion`` (a version or None), and why."""
    ranking = next((name for name in RANKINGS if name in exported.metrics), RANKINGS[-1])
    value = exported.metrics.get(ranking)
    if champion is None:
        return "champion", f"the first of its name, {ranking} {_shown(value)}"
    its = f"the champion, version {champion.version},"
    if int(champion.tags.get(TRACKED, 0)) > exported.time:
        return "challenger", f"{its} is of a later run"
    if champion.tags.get(DIGEST) != exported.digest:
        return "challenger", f"{its} was measured on other images"
    other = json.loads(champion.tags[METRICS]).get(ranking)
    better = value is not None and (other is None or value > other)
    alias, how = ("champion", "better") if better else ("challenger", "not better")
    return alias, f"{ranking} {_shown(value)} is {how} than {_shown(other)} of version {champion.version}"


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"


def _holders(client: Client, name: str) -> "dict[str, ModelVersion]":
    """The versions of the registered model ``name`` by their aliases; registers the name if it is new."""
    from mlflow.exceptions import MlflowException

    about = (
        "Exported spiking networks. `champion` has the highest accuracy on the test images, which chose it: it is a little "
        "too high. Updates have the tag `base`, and the champion is the best on the hold-out. `challenger` is the newest "
        "version that is not better."
    )
    try:
        client.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    aliases = client.get_registered_model(name).aliases
    return {alias: client.get_model_version(name, version) for alias, version in aliases.items()}


def save_served_model(files: dict[str, Path], folder: str, run_id: str, model_id: str) -> None:
    """Write an exported model's ``files``, by their names, to ``folder``: as a pyfunc of MLflow, which is ONNX too."""
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, DataType, Map, Schema

    from gee_core.data import pixels

    answer: dict[str, DataType | Map] = {
        "class": DataType.string,
        "probability": DataType.double,
        "probabilities": Map(DataType.double),
    }
    card = ModelCard.model_validate_json(files["meta.json"].read_text(encoding="utf-8"))
    image: object = base64.b64encode(files["example.png"].read_bytes()).decode()
    if card.events is not None:
        image = np.zeros((card.events.frames, card.in_channels, card.image_size, card.image_size), int).tolist()
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
        pip_requirements=[
            f"{package}=={importlib.metadata.version(package)}"
            for package in ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")
        ],
    )
    for name in {"README.md", "example.png", *OTHERS} & set(files):
        shutil.copy(files[name], folder)


def download_model(address: str, folder: str) -> Path:
    """Download the model at ``address``, such as ``models:/NAME@ALIAS``, to ``folder``; the path of its ONNX file.

    Raises:
        InputError: MLflow cannot be reached, or has no such model of this project.
    """
    uri = mlflow_client.tracking_uri()
    if uri.startswith(mlflow_client.SQLITE) and not Path(uri.removeprefix(mlflow_client.SQLITE).partition("?")[0]).exists():
        raise InputError(f"{address}: there is no {bare(uri)}", "`gee run` makes it, or set MLFLOW_TRACKING_URI")
    mlflow_client.connect(uri)
    from mlflow.artifacts import download_artifacts

    try:
        path = Path(download_artifacts(artifact_uri=address, dst_path=folder, tracking_uri=uri, registry_uri=uri))
    except Exception as error:  # of MLflow, of its HTTP client, or of whatever stores the files
        remedy = "write models:/NAME@champion, models:/NAME/VERSION or runs:/RUN/NAME of a model that `gee ui` shows"
        raise InputError(f"{address}: cannot be read from {bare(uri)} ({redact(in_short(error))})", remedy) from None
    network = path / "artifacts" / "network.onnx"
    for file in (network, network.with_name("meta.json")):
        if not file.is_file():
            problem = f"{address}: has no {file.relative_to(path)} in {bare(uri)}"
            raise InputError(problem, "restore it from a backup, or name a model that stage export logged")
    return network

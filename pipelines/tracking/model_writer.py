"""Writes an exported model to MLflow and its registry; repeated calls change nothing."""

import tempfile

import numpy as np

from pipelines.tracking import mlflow_client
from pipelines.tracking.outbox import ENTRY, Outbox

TRACKED = "gee.tracked"
"""Tag of a registered version: time of its export in ms, so that a late replay does not replace a newer champion."""


def write_model(client, experiment_id: str, run_id: str, entry: dict, outbox: Outbox) -> None:
    """Log the entry's ONNX file as a model of the run, and make it the champion of its name if the entry says so."""
    tag = f"{outbox.name}/{entry['n']}"
    query = f"tags.`{ENTRY}` = '{tag}'"
    found = client.search_logged_models([experiment_id], query)
    model = found[0] if found else client.create_logged_model(experiment_id, entry["name"], run_id, tags={ENTRY: tag})
    if str(model.status) != "READY":
        inputs, outputs = (np.zeros(entry[key]["shape"], entry[key]["dtype"]) for key in ("inputs", "outputs"))
        with tempfile.TemporaryDirectory() as folder:
            path = outbox.folder / entry["files"][0]
            mlflow_client.save_onnx(path, f"{folder}/model", run_id, model.model_id, inputs, outputs)
            client.log_model_artifacts(model.model_id, f"{folder}/model")
        client.finalize_logged_model(model.model_id, "READY")
    mlflow_client.link_model(client, run_id, model.model_id)
    if entry["register"]:
        _register(client, run_id, model.model_id, entry, tag)


def _register(client, run_id: str, model_id: str, entry: dict, tag: str) -> None:
    name = entry["name"]
    champion = mlflow_client.champion(client, name)
    versions = [v for v in client.search_model_versions(f"name = '{name}'") if v.tags.get(ENTRY) == tag]
    if not versions:
        tags = {ENTRY: tag, TRACKED: str(entry["time"])}
        versions = [client.create_model_version(name, f"models:/{model_id}", run_id, tags=tags, model_id=model_id)]
    if champion is None or int(champion.tags.get(TRACKED, 0)) <= entry["time"]:
        client.set_registered_model_alias(name, "champion", versions[0].version)

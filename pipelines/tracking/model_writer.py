"""Writes an exported model to MLflow and its registry; repeated calls change nothing.

Of the versions of a registered name, the alias `champion` marks the best that was measured on the same images, `challenger` the
newest that is not better than it, and MLflow's own `latest` the newest. The first version is the champion.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from pipelines.tracking import mlflow_models
from pipelines.tracking.entries import ExportedModel, LogModel
from pipelines.tracking.mlflow_client import Client
from pipelines.tracking.tags import ALIAS, DIGEST, ENTRY, METRICS, NOTE, REASON, TRACKED

LONGEST_NOTE = 5000
"""Characters of a tag or description that MLflow's databases other than SQLite take."""


def write_model(
    client: Client,
    experiment_id: str,
    run_id: str,
    pipeline_id: str,
    entry: LogModel,
    files: dict[str, Path],
    key: str,
) -> None:
    """Log the entry's model, whose ``files`` have these names, with its metrics, and register it if the entry says so.

    MLflow shows the model in the row of the pipeline's run, its source; it is an output of the stage's run ``run_id`` too.
    """
    of = entry.model
    found = client.search_logged_models([experiment_id], f"tags.`{ENTRY}` = '{key}'")
    if found:
        model: Any = found[0]
    else:
        note = files["README.md"].read_text(encoding="utf-8")[:LONGEST_NOTE]
        tags = {ENTRY: key, DIGEST: of.digest, NOTE: note}
        params = {name: str(value) for name, value in of.params.items()}
        model = client.create_logged_model(experiment_id, of.name, pipeline_id, tags, params, model_type="classifier")
    if str(model.status) != "READY":
        with tempfile.TemporaryDirectory() as folder:
            mlflow_models.save_served_model(files, f"{folder}/model", pipeline_id, model.model_id)
            client.log_model_artifacts(model.model_id, f"{folder}/model")
        client.finalize_logged_model(model.model_id, "READY")
    for output_of in dict.fromkeys((run_id, pipeline_id)):
        mlflow_models.link_model(client, output_of, model.model_id)
    mlflow_models.log_model_metrics(client, run_id, model.model_id, of, entry.time)
    if of.register:
        _register(client, pipeline_id, model, of, entry.time, key)


def _register(client: Client, run_id: str, model: Any, of: ExportedModel, time: int, key: str) -> None:
    name, holders = of.name, mlflow_models.holders(client, of.name)
    versions = [v for v in client.search_model_versions(f"name = '{name}'") if v.tags.get(ENTRY) == key]
    if versions:
        version: Any = versions[0]
    else:
        alias, reason = rank(of, time, holders.get("champion"))
        tags = {ALIAS: alias, REASON: reason, DIGEST: of.digest, METRICS: json.dumps(of.metrics)}
        tags |= {TRACKED: str(time), ENTRY: key}
        # Not models:/ID, which a local store would look up at MLflow's global address, in DVC's temporary copies a wrong one.
        version = client.create_model_version(
            name, model.artifact_location, run_id, tags, description=model.tags[NOTE], model_id=model.model_id
        )
    # the README was written before the version had a number, and the champion may be another network
    note = model.tags[NOTE].replace(f"models:/{name}@champion", f"models:/{name}/{version.version}")
    if version.description == model.tags[NOTE] != note:  # else somebody wrote another
        client.update_model_version(name, version.version, note)
    mlflow_models.note_version(client, model, version)
    alias, holder = version.tags[ALIAS], holders.get(version.tags[ALIAS])
    if holder is None or int(holder.tags.get(TRACKED, 0)) <= time:
        client.set_registered_model_alias(name, alias, version.version)
    print(f"MLflow: {name} version {version.version} is {alias}: {version.tags[REASON]}", flush=True)


def rank(of: ExportedModel, time: int, champion: Any) -> tuple[str, str]:
    """The alias that a model, exported at ``time``, gets beside the present ``champion`` (a version or None), and why."""
    metric = of.promote_metric
    value = of.metrics.get(metric)
    if champion is None:
        return "champion", f"the first of its name, {metric} {_shown(value)}"
    its = f"the champion, version {champion.version},"
    if int(champion.tags.get(TRACKED, 0)) > time:
        return "challenger", f"{its} is of a later run"
    if champion.tags.get(DIGEST) != of.digest:
        return "challenger", f"{its} was measured on other images"
    other = json.loads(champion.tags[METRICS]).get(metric)
    better = value is not None and (other is None or (value > other if of.higher_is_better else value < other))
    how = "better" if better else "not better"
    return (
        "champion" if better else "challenger",
        f"{metric} {_shown(value)} is {how} than {_shown(other)} of version {champion.version}",
    )


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"

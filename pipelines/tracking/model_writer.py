"""Writes an exported model to MLflow and its registry; repeated calls change nothing.

Of the versions of a registered name, the alias `champion` marks the best that was measured on the same images, `challenger` the
newest that is not better than it, and MLflow's own `latest` the newest. The first version is the champion.
"""

import json
import tempfile
from pathlib import Path

from pipelines.tracking import mlflow_models
from pipelines.tracking.outbox import Outbox, one_at_a_time
from pipelines.tracking.tags import ALIAS, DIGEST, ENTRY, METRICS, NOTE, REASON, TRACKED

LONGEST_NOTE = 5000
"""Characters of a tag or description that MLflow's databases other than SQLite take."""


def write_model(client, experiment_id: str, run_id: str, pipeline_id: str, entry: dict, outbox: Outbox) -> None:
    """Log the entry's model with its metrics, and register it if the entry says so.

    MLflow shows the model in the row of the pipeline's run, its source; it is an output of the stage's run ``run_id`` too.
    """
    tag = f"{outbox.name}/{entry['n']}"
    files = {Path(file).name: outbox.folder / file for file in entry["files"]}
    found = client.search_logged_models([experiment_id], f"tags.`{ENTRY}` = '{tag}'")
    if found:
        model = found[0]
    else:
        note = files["README.md"].read_text(encoding="utf-8")[:LONGEST_NOTE]
        tags = {ENTRY: tag, DIGEST: entry["digest"], NOTE: note}
        name, params = entry["name"], entry["params"]
        model = client.create_logged_model(experiment_id, name, pipeline_id, tags, params, model_type="classifier")
    if str(model.status) != "READY":
        with tempfile.TemporaryDirectory() as folder:
            mlflow_models.save_served_model(files, f"{folder}/model", pipeline_id, model.model_id)
            client.log_model_artifacts(model.model_id, f"{folder}/model")
        client.finalize_logged_model(model.model_id, "READY")
    for output_of in dict.fromkeys((run_id, pipeline_id)):
        mlflow_models.link_model(client, output_of, model.model_id)
    mlflow_models.log_model_metrics(client, run_id, model.model_id, entry)
    if entry["register"]:
        with one_at_a_time(outbox.folder.parent, "store"):  # two must not compare themselves with the same champion
            _register(client, pipeline_id, model, entry, tag)


def _register(client, run_id: str, model, entry: dict, tag: str) -> None:
    name, holders = entry["name"], mlflow_models.holders(client, entry["name"])
    versions = [v for v in client.search_model_versions(f"name = '{name}'") if v.tags.get(ENTRY) == tag]
    if versions:
        version = versions[0]
    else:
        alias, reason = rank(entry, holders.get("champion"))
        tags = {ALIAS: alias, REASON: reason, DIGEST: entry["digest"], METRICS: json.dumps(entry["metrics"])}
        tags |= {TRACKED: entry["time"], ENTRY: tag}
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
    if holder is None or int(holder.tags.get(TRACKED, 0)) <= entry["time"]:
        client.set_registered_model_alias(name, alias, version.version)
    print(f"MLflow: {name} version {version.version} is {alias}: {version.tags[REASON]}", flush=True)


def rank(entry: dict, champion) -> tuple[str, str]:
    """The alias that the model of ``entry`` gets beside the present ``champion`` of its name (a version or None), and why."""
    metric = entry["promote_metric"]
    value = entry["metrics"].get(metric)
    if champion is None:
        return "champion", f"the first of its name, {metric} {_shown(value)}"
    its = f"the champion, version {champion.version},"
    if int(champion.tags.get(TRACKED, 0)) > entry["time"]:
        return "challenger", f"{its} is of a later run"
    if champion.tags.get(DIGEST) != entry["digest"]:
        return "challenger", f"{its} was measured on other images"
    other = json.loads(champion.tags[METRICS]).get(metric)
    better = value is not None and (other is None or (value > other if entry["higher_is_better"] else value < other))
    how = "better" if better else "not better"
    return (
        "champion" if better else "challenger",
        f"{metric} {_shown(value)} is {how} than {_shown(other)} of version {champion.version}",
    )


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.6g}"

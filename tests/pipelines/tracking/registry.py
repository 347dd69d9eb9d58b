"""A store in memory that also keeps models and registered versions."""

from types import SimpleNamespace as Values

from tests.pipelines.tracking.conftest import FakeClient, Page


class FakeRegistry(FakeClient):
    """As `FakeClient`: each call may fail before it does its work, or after it."""

    def __init__(self):
        super().__init__()
        self.models: dict[str, Values] = {}
        self.versions: list[Values] = []
        self.aliases: dict[str, int] = {}
        self.is_registered = False

    def do_search_logged_models(self, experiments, query):
        tag = query.partition("'")[2].rstrip("'")
        return Page(model for model in self.models.values() if model.tags["gee.entry"] == tag)

    def do_create_logged_model(self, experiment_id, name, run_id, tags, params, model_type):
        model_id = f"m-{len(self.models)}"
        known = {
            "tags": dict(tags),
            "params": params,
            "metrics": set(),
            "status": "PENDING",
            "artifact_location": f"s3://{model_id}",
        }
        self.models[model_id] = Values(model_id=model_id, name=name, files=[], **known)
        return self.models[model_id]

    def do_log_model_artifacts(self, model_id, folder):
        self.models[model_id].files = ["network.onnx"]

    def do_finalize_logged_model(self, model_id, status):
        self.models[model_id].status = status

    def do_get_logged_model(self, model_id):
        return self.models[model_id]

    def do_set_logged_model_tags(self, model_id, tags):
        self.models[model_id].tags |= tags

    def do_log_outputs(self, run_id, models):
        self.runs[run_id].outputs.model_outputs.extend(models)

    def do_log_batch(self, run_id, metrics):
        for m in metrics:
            self.models[m.model_id].metrics.add((m.key, m.value, m.step, m.timestamp, m.dataset_name, m.dataset_digest))

    def do_create_registered_model(self, name, description):
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS

        if self.is_registered:
            raise MlflowException("it exists", RESOURCE_ALREADY_EXISTS)
        self.is_registered, self.description = True, description

    def do_get_registered_model(self, name):
        return Values(aliases=dict(self.aliases))

    def do_get_model_version(self, name, version):
        return self.versions[int(version) - 1]

    def do_search_model_versions(self, query):
        return Page(self.versions)

    def do_create_model_version(self, name, source, run_id, tags, model_id):
        tags = {key: str(value) for key, value in tags.items()}
        version = Values(name=name, version=len(self.versions) + 1, source=source, tags=tags, description="")
        self.versions.append(version)
        return version

    def do_update_model_version(self, name, version, description):
        self.versions[int(version) - 1].description = description

    def do_set_registered_model_alias(self, name, alias, version):
        self.aliases[alias] = int(version)

    def everything(self) -> list:
        """All that is in it."""
        models = [(m.status, m.files, sorted(m.metrics), sorted(m.tags.items())) for m in self.models.values()]
        outputs = [[model.model_id for model in run.outputs.model_outputs] for run in self.runs.values()]
        return [
            models,
            outputs,
            [(version.description, sorted(version.tags.items())) for version in self.versions],
            self.aliases,
        ]

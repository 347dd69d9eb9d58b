"""Which model is champion, and that a repeated entry changes nothing."""

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace as Values

import pytest

from pipelines.tracking import mlflow_models
from pipelines.tracking.mlflow_models import rank, write_model
from tests.pipelines.tracking.conftest import Faulty, Page
from tests.pipelines.tracking.models import exported_model, write_exported

NAME = "gee-digits-vgg16-g6"


def model(metrics, time=100, digest="a"):
    return exported_model(Path(), metrics=metrics, digest=digest, time=time)


def champion(metrics, time=50, digest="a"):
    tags = {"gee.tracked": str(time), "gee.dataset_digest": digest, "gee.metrics": json.dumps(metrics)}
    return Values(version="7", tags=tags)


IMAGES, LATER = "the champion, version 7, was measured on other images", "the champion, version 7, is of a later run"


@pytest.mark.parametrize(
    ("new", "old", "alias", "reason"),
    [
        (model({"test_accuracy": 0.5}), None, "champion", "the first of its name, test_accuracy 0.5"),
        (model({"test_accuracy": 0.9}), champion({"test_accuracy": 0.8}), "champion", "0.9 is better than 0.8 of version 7"),
        (model({"test_accuracy": 0.8}), champion({"test_accuracy": 0.8}), "challenger", "0.8 is not better than 0.8 of vers"),
        (model({}), champion({"test_accuracy": 0.2}), "challenger", "test_accuracy unknown is not better than 0.2"),
        (model({"test_accuracy": 0.1}), champion({}), "champion", "test_accuracy 0.1 is better than unknown"),
        (model({"test_accuracy": 0.9}, digest="b"), champion({"test_accuracy": 0.1}), "challenger", IMAGES),
        (model({"test_accuracy": 0.9}), champion({"test_accuracy": 0.1}, time=101), "challenger", LATER),
        (model({"test_accuracy": 0.9}), Values(version="7", tags={}), "challenger", IMAGES),
    ],
)
def test_only_a_model_that_is_better_on_the_same_images_becomes_champion(new, old, alias, reason):
    found, why = rank(new, old)
    assert found == alias
    assert reason in why


class FakeRegistry(Faulty):
    """Logged models, registered versions, and the models that runs have as outputs."""

    def __init__(self):
        super().__init__()
        self.outputs: dict[str, list] = defaultdict(list)
        self.models: dict[str, Values] = {}
        self.versions: list[Values] = []
        self.aliases: dict[str, int] = {}
        self.description = ""

    def do_get_run(self, run_id):
        return Values(outputs=Values(model_outputs=list(self.outputs[run_id])))

    def do_search_logged_models(self, experiments, query):
        return Page(model for model in self.models.values() if f"'{model.tags['gee.entry']}'" in query)

    def do_create_logged_model(self, experiment_id, name, run_id, tags, params, model_type):
        known = {"tags": dict(tags), "metrics": set(), "status": "PENDING", "artifact_location": "s3://m", "files": []}
        model_id = f"m-{len(self.models)}"
        self.models[model_id] = Values(model_id=model_id, name=name, params=params, **known)
        return self.models[model_id]

    def do_log_model_artifacts(self, model_id, folder):
        self.models[model_id].files = ["network.onnx"]

    def do_finalize_logged_model(self, model_id, status):
        self.models[model_id].status = status

    def do_set_logged_model_tags(self, model_id, tags):
        self.models[model_id].tags |= tags

    def do_log_outputs(self, run_id, models):
        self.outputs[run_id] += models

    def do_log_batch(self, run_id, metrics):
        for m in metrics:
            self.models[m.model_id].metrics.add((m.key, m.value, m.step, m.timestamp, m.dataset_name, m.dataset_digest))

    def do_create_registered_model(self, name, description):
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS

        if self.description:
            raise MlflowException("it exists", RESOURCE_ALREADY_EXISTS)
        self.description = description

    def do_get_registered_model(self, name):
        return Values(aliases=dict(self.aliases))

    def do_get_model_version(self, name, version):
        return self.versions[int(version) - 1]

    def do_search_model_versions(self, query):
        return Page(self.versions)

    def do_create_model_version(self, name, source, run_id, tags, model_id):
        tags = {key: str(value) for key, value in tags.items()}
        self.versions.append(Values(version=len(self.versions) + 1, tags=tags, description=""))
        return self.versions[-1]

    def do_update_model_version(self, name, version, description):
        self.versions[int(version) - 1].description = description

    def do_set_registered_model_alias(self, name, alias, version):
        self.aliases[alias] = int(version)

    def everything(self) -> list:
        """All that is in it."""
        models = [(m.status, m.files, sorted(m.metrics), sorted(m.tags.items())) for m in self.models.values()]
        outputs = {run_id: [model.model_id for model in models] for run_id, models in self.outputs.items()}
        return [models, outputs, [(v.description, sorted(v.tags.items())) for v in self.versions], self.aliases]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a model of a given accuracy and time to a registry."""
    write_exported(tmp_path / "exported")
    monkeypatch.setattr(mlflow_models, "save_served_model", lambda *_: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")

    def write(registry: FakeRegistry, accuracy: float, time: int) -> str:
        exported = exported_model(tmp_path / "exported", accuracy, time=time)
        return write_model(registry, "0", f"run{time}", "pipeline", exported, f"one/{time}")

    return write


ACCURACIES = {1: 0.5, 2: 0.4, 3: 0.7, 4: 0.6}


@pytest.mark.parametrize("fault", ["lose", "drop"])
def test_a_model_whose_writing_breaks_off_at_whichever_call_is_there_once_with_its_alias(write, fault):
    expected = FakeRegistry()
    for time, accuracy in ACCURACIES.items():
        write(expected, accuracy, time)
    assert expected.aliases == {"champion": 3, "challenger": 4}
    first = [version.tags["gee.first_alias"] for version in expected.versions]
    assert first == ["champion", "challenger", "champion", "challenger"]
    assert expected.description.startswith("Exported spiking networks: `champion` is ")
    for number in range(len(expected.calls)):
        registry = FakeRegistry()
        setattr(registry, fault, {number})
        for time, accuracy in ACCURACIES.items():
            try:
                write(registry, accuracy, time)
            except ConnectionError:
                write(registry, accuracy, time)
        for time in (1, 3):  # as by a replay whose notes were lost
            write(registry, ACCURACIES[time], time)
        assert registry.everything() == expected.everything(), f"call {number}: {expected.calls[number]}"


def test_an_older_model_that_arrives_late_changes_no_alias_of_newer_ones(write, tmp_path):
    """Its description is as long as every database takes."""
    registry, readme = FakeRegistry(), tmp_path / "exported/README.md"
    readme.write_text(f"---\nlibrary_name: gee\n---\n# models:/{NAME}@champion " + "long " * 2000)
    said = [write(registry, ACCURACIES[time], time) for time in (2, 3, 4)]
    before = dict(registry.aliases)
    said.append(write(registry, 0.99, 1))
    assert registry.aliases == before == {"champion": 2, "challenger": 3}
    text = registry.versions[1].description
    assert text.startswith(f"test_accuracy 0.7\n\n# models:/{NAME}/2 long") and len(text) <= 5000
    assert said[0] == f"{NAME} version 1 is champion: the first of its name, test_accuracy 0.4"
    assert said[-1] == f"{NAME} version 4 is challenger: the champion, version 2, is of a later run"

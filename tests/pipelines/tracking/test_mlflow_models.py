"""Which model is champion, and that a model whose writing breaks off is there once."""

import json
from types import SimpleNamespace as Values

import pytest

from pipelines.tracking import mlflow_models
from pipelines.tracking.mlflow_client import find_experiment
from pipelines.tracking.mlflow_models import rank, write_model
from tests.pipelines.tracking.models import exported_model, write_exported

NAME = "gee-digits-vgg16-g6"


def model(accuracy, time=100, digest="a"):
    return exported_model(digest=digest, time=time, metrics={} if accuracy is None else {"test_accuracy": accuracy})


def champion(metrics, time=50, digest="a"):
    tags = {"gee.tracked": str(time), "gee.dataset_digest": digest, "gee.metrics": json.dumps(metrics)}
    return Values(version="7", tags=tags)


IMAGES, LATER = "the champion, version 7, was measured on other images", "the champion, version 7, is of a later run"


@pytest.mark.parametrize(
    ("new", "old", "alias", "reason"),
    [
        (model(0.5), None, "champion", "the first of its name, test_accuracy 0.5"),
        (model(0.9), champion({"test_accuracy": 0.8}), "champion", "0.9 is better than 0.8 of version 7"),
        (model(0.8), champion({"test_accuracy": 0.8}), "challenger", "0.8 is not better than 0.8 of vers"),
        (model(None), champion({"test_accuracy": 0.1}), "challenger", "test_accuracy unknown is not better than 0.1"),
        (model(0.1), champion({}), "champion", "test_accuracy 0.1 is better than unknown"),
        (model(0.9, digest="b"), champion({"test_accuracy": 0.1}), "challenger", IMAGES),
        (model(0.9), champion({"test_accuracy": 0.1}, time=101), "challenger", LATER),
        (model(0.9), Values(version="7", tags={}), "challenger", IMAGES),
    ],
)
def test_only_a_model_that_is_better_on_the_same_images_becomes_champion(new, old, alias, reason):
    found, why = rank(new, old)
    assert found == alias
    assert reason in why


@pytest.fixture
def write(tmp_path, store, monkeypatch):
    """Writes a model of a given accuracy and time under a name."""
    write_exported(tmp_path / "exported")
    readme = f"---\nlibrary_name: gee\n---\n# models:/{NAME}@champion " + "long " * 2000
    monkeypatch.setattr(mlflow_models, "save_served_model", lambda files, folder, *_: write_exported(tmp_path / "served"))
    monkeypatch.setattr(type(store), "log_model_artifacts", lambda *_: None, raising=False)
    experiment = find_experiment(store, "gee", "sqlite:")
    stage, pipeline = (store.create_run(experiment).info.run_id for _ in range(2))
    store.calls.clear()

    def write(accuracy: float, time: int, name: str = NAME) -> str:
        (tmp_path / "exported/README.md").write_text(readme.replace(NAME, name))
        exported = exported_model(accuracy, name=name, time=time)
        return write_model(store, experiment, stage, pipeline, exported, tmp_path / "exported", f"{name}/{time}")

    return write


ACCURACIES = {1: 0.5, 2: 0.4, 3: 0.7, 4: 0.6}


def registered(store, name: str) -> list:
    """What the registry has of a name, and its aliases."""
    versions = sorted(store.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))
    return [
        {alias: int(version) for alias, version in store.get_registered_model(name).aliases.items()},
        [(v.version, v.tags["gee.first_alias"], v.description.replace(name, "NAME")[:4000]) for v in versions],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["lost", "dropped"])
def test_a_model_whose_writing_breaks_off_is_there_once_with_its_alias(write, store, fault):
    for time, accuracy in ACCURACIES.items():
        write(accuracy, time)
    calls, expected = list(store.calls), registered(store, NAME)
    assert expected[0] == {"champion": 3, "challenger": 4}
    assert [alias for _, alias, _ in expected[1]] == ["champion", "challenger", "champion", "challenger"]
    for number in range(0, len(calls), 5):
        name = f"{NAME}-{number}"
        store.calls.clear()
        setattr(store, fault, number)
        for time, accuracy in ACCURACIES.items():
            try:
                write(accuracy, time, name)
            except ConnectionError:
                write(accuracy, time, name)
        for time in (1, 3):  # as by a replay whose notes were lost
            write(ACCURACIES[time], time, name)
        assert registered(store, name) == expected, f"call {number}: {calls[number]}"
    assert store.get_registered_model(NAME).description.startswith("Exported spiking networks. `champion` has ")


def test_an_older_model_that_arrives_late_changes_no_alias_of_newer_ones(write, store):
    """Its description is as long as every database takes."""
    said = [write(ACCURACIES[time], time) for time in (2, 3, 4)]
    before, versions = registered(store, NAME)
    said.append(write(0.99, 1))
    assert registered(store, NAME)[0] == before == {"champion": 2, "challenger": 3}
    text = versions[1][2]
    assert (
        text.startswith("test_accuracy 0.7\n\n# models:/NAME/2 long")
        and len(store.get_model_version(NAME, 2).description) <= 5000
    )
    assert said[0] == f"{NAME} version 1 is champion: the first of its name, test_accuracy 0.4"
    assert said[-1] == f"{NAME} version 4 is challenger: the champion, version 2, is of a later run"

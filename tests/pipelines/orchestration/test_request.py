import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gee_core.errors import InputError
from pipelines.orchestration.request import Request, checked, choice, experiment_changes, with_needed
from pipelines.project.presets import load_preset

ROOT = Path(__file__).resolve().parents[3]
GRAPH = {"first": [], "second": ["first"], "other": ["first"], "third": ["second"]}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project that git knows."""
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(ROOT / "presets/digits.yaml", project / "params.yaml")
    shutil.copy(ROOT / "dvc.yaml", project)
    shutil.copytree(ROOT / "presets", project / "presets")
    (project / "data/raw").mkdir(parents=True)
    (project / "data/raw/README.md").touch()
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    monkeypatch.chdir(project)
    return project


def test_nothing_special_is_params_yaml_as_it_is(project):
    params, changes = checked(Request(), project)
    assert (params.evolve.n_generations, changes) == (3, [])
    assert not Request(stages=["train"], force=True).is_experiment


def test_overrides_of_a_preset_are_changes_to_params_yaml(project):
    request = Request({"evolve.n_generations": 1, "network.init": {"beta": 0.5}}, preset="digits")
    params, changes = checked(request, project)
    assert request.is_experiment
    assert (params.evolve.n_generations, params.network.init.beta) == (1, 0.5)
    assert changes == ["network.init={beta:0.5}", "evolve.n_generations=1"]


def make_images(folder):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            (folder / split / name / "1.png").touch()


def path_of_images(project, path: str) -> str:
    overrides = {"prepare.dataset": "folder", "prepare.image_size": 8, "prepare.path": path}
    params, changes = checked(Request(overrides), project)
    assert params.prepare.path == path or f"prepare.path='{params.prepare.path}'" in changes
    return params.prepare.path


def test_images_that_git_does_not_know_are_read_where_they_are(project):
    make_images(project / "data/raw")
    assert path_of_images(project, "data/raw") == str(project / "data/raw")


def test_a_folder_of_which_git_knows_the_readme_alone_is_read_where_it_is(project):
    preset = load_preset("cifar10-small", "data/raw")
    _, changes = experiment_changes(preset.values, preset.params, project)
    assert f"prepare.path='{project}/data/raw'" in changes


@pytest.mark.parametrize("path", ["../imgs", "data/up/imgs", "data/imgs"])
def test_images_outside_of_the_repository_are_read_where_they_are(path, project):
    make_images(project.parent / "imgs")
    (project / "data/up").symlink_to("../..")
    (project / "data/imgs").symlink_to("../../imgs")
    subprocess.run(["git", "add", "data"], cwd=project, check=True)
    assert path_of_images(project, path) == f"{project}/{path}"


def test_images_that_git_tracks_are_read_in_the_experiments_copy(project):
    make_images(project / "data/imgs")
    subprocess.run(["git", "add", "data"], cwd=project, check=True)
    assert path_of_images(project, "data/imgs") == "data/imgs"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request({"evolve.n_generation": 1}), "overrides: evolve.n_generation is not a known key: did you mean n_generations?"),
        (Request({"n_generations": 1}), "overrides: n_generations = 1: no such key: write section.key"),
        (Request({"evolve.n_generations": 0}), "overrides: evolve.n_generations = 0: "),
        (Request({"evolve.n_generations": "many"}), "overrides: evolve.n_generations = 'many': "),
        (
            Request({"report.title": "${oc.env:HOME}"}),
            "overrides: report.title = '${oc.env:HOME}': \"${\" stands for another value",
        ),
        (Request(preset="nothing"), "unknown preset 'nothing': choose one of "),
        (Request({"prepare.dataset": "folder", "prepare.path": "nowhere"}), "prepare.path = nowhere"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_message(request_, message, project):
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        checked(request_, project)
    assert "\n" not in str(caught.value)
    assert (project / "params.yaml").read_bytes() == before


def test_an_experiment_needs_git(project):
    shutil.rmtree(project / ".git")
    (project / "networks").mkdir()
    (project / "networks/mine.py").write_text("from examples.spiking_vgg import SpikingVGG\n")
    for overrides in ({"train.epochs": 3}, {"network.name": "networks.mine:SpikingVGG"}):
        with pytest.raises(InputError, match="project: no git commit of the project, which DVC's experiments need"):
            checked(Request(overrides), project)


def test_a_git_that_does_not_work_is_no_reason_for_another_repository(project):
    (project / ".git/config").write_text("[")
    with pytest.raises(InputError, match="git: bad config"):
        checked(Request({"train.epochs": 3}), project)


def test_stages_come_with_what_they_need_and_in_order():
    assert with_needed(GRAPH, []) == GRAPH
    assert list(with_needed(GRAPH, ["third"])) == ["first", "second", "third"]
    assert list(with_needed(GRAPH, ["other", "first"])) == ["first", "other"]
    with pytest.raises(InputError, match="stages: unknown stage 'fourth': choose one of first, second, other, third"):
        with_needed(GRAPH, ["first", "fourth"])


def test_a_choice_takes_its_names_alone():
    from pydantic import TypeAdapter

    assert TypeAdapter(choice(["a", "b"])).json_schema() == {"enum": ["a", "b"], "type": "string"}
    assert TypeAdapter(choice([])).json_schema() == {"type": "string"}

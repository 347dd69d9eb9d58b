import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gee_core.errors import InputError
from pipelines.orchestration.request import Request, checked, choice, with_needed

ROOT = Path(__file__).resolve().parents[3]
GRAPH = {"first": [], "second": ["first"], "other": ["first"], "third": ["second"]}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project that git knows."""
    shutil.copy(ROOT / "presets/digits.yaml", tmp_path / "params.yaml")
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/README.md").touch()
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def test_images_that_git_does_not_know_are_read_where_they_are(project):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (project / f"data/raw/{split}/{name}").mkdir(parents=True)
            (project / f"data/raw/{split}/{name}/1.png").touch()
    params, changes = checked(Request({"prepare.dataset": "folder", "prepare.image_size": 8}), project)
    assert params.prepare.path == str(project / "data/raw")
    assert f"prepare.path='{project}/data/raw'" in changes


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request({"evolve.n_generation": 1}), "overrides: evolve.n_generation is not a known key: did you mean n_generations?"),
        (Request({"n_generations": 1}), "overrides: n_generations = 1: no such key: write section.key"),
        (Request({"evolve.n_generations": 0}), "overrides: evolve.n_generations = 0: "),
        (Request({"evolve.n_generations": "many"}), "overrides: evolve.n_generations = 'many': "),
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
    with pytest.raises(InputError, match="overrides: run as a DVC experiment, and that needs a git commit"):
        checked(Request({"train.epochs": 3}), project)


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

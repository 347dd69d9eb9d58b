"""The command `gee` in a folder that is no project: what needs none works in the clone that it was installed from.

In a project with code of its own it runs that code, or nothing."""

import shutil
from pathlib import Path

import pytest

from pipelines.project import paths
from tests.project_copy import ROOT


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """What `gee` is installed from."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "presets", folder / "presets")
    monkeypatch.setattr(paths, "__file__", str(folder / "pipelines/project/paths.py"))
    return folder


@pytest.fixture
def elsewhere(tmp_path, clone, monkeypatch) -> Path:
    """The current folder, in no project."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    "command", [["preset", "use", "digits"], ["-q", "run"], ["study", "list"], ["flow", "run"]], ids=" ".join
)
def test_a_command_on_a_project_stops_outside_of_any_and_names_the_clone(command, main, clone, elsewhere):
    before = (clone / "params.yaml").read_bytes()
    problem = f"{elsewhere}: in no project of GEE (a folder with dvc.yaml)"
    assert main(*command) == (2, "", f"gee: error: {problem}: go to a clone, such as {clone}\n")
    assert (clone / "params.yaml").read_bytes() == before


def test_it_is_said_where_predict_takes_its_network_from(main, clone, elsewhere):
    (elsewhere / "a.png").touch()
    assert main("predict", "a.png")[2].startswith(f"gee: no project here, working in {clone}\n")
    assert "working in" not in main("predict", "a.png", "--model", "network.onnx")[2]


@pytest.mark.parametrize("command", [["count", "--network", "vgg16", "--width", "0.1"], ["run", "--help"], ["--version"]])
def test_nothing_is_said_where_the_project_does_not_matter(command, main, elsewhere):
    (elsewhere / "params.yaml").write_text("mine: 1\n")
    code, _, err = main(*command)
    assert (code, err) == (0, "")


def test_a_project_whose_code_is_another_copy_than_the_installed_one_is_refused(main, bare_project):
    """As after a `pip install .` in .venv: the stages would run the code of the project, `gee` a copy that stays as it is."""
    count = ("count", "--network", "vgg16", "--width", "0.1")
    (bare_project / "pipelines").symlink_to(ROOT / "pipelines")
    assert main(*count)[::2] == (0, "")
    (bare_project / "pipelines").unlink()
    (bare_project / "pipelines").mkdir()
    (bare_project / "pipelines/cli.py").touch()
    code, out, err = main(*count)
    assert (code, out) == (2, "")
    assert err.startswith(f"gee: error: `gee` is installed from {ROOT}, and this project has code of its own in {bare_project}")
    assert '`python -m pip install -e ".[evolve,onnx]" -e ./pipelines`' in err

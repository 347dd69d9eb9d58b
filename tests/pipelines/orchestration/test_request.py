import re
import shutil

import pytest

from gee_core.errors import InputError
from pipelines.orchestration.request import Request, check_request, experiment_values
from pipelines.project.presets import load_preset
from tests.project_copy import ROOT, commit, make_repository, run


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """A project that git knows."""
    project = tmp_path_factory.mktemp("request") / "project"
    project.mkdir()
    shutil.copy(ROOT / "presets/digits.yaml", project / "params.yaml")
    shutil.copy(ROOT / "dvc.yaml", project)
    shutil.copytree(ROOT / "presets", project / "presets")
    (project / "data/raw").mkdir(parents=True)
    (project / "data/raw/README.md").touch()
    make_repository(project)
    commit(project, "all")
    return project


@pytest.fixture
def project(committed, tmp_path, monkeypatch):
    """A copy of that project."""
    project = shutil.copytree(committed, tmp_path / "project")
    monkeypatch.chdir(project)
    return project


def test_nothing_special_is_params_yaml_as_it_is(project):
    params, changes = check_request(Request())
    assert (params.evolve.n_generations, changes) == (6, [])
    words = Request(stages=["train", "export"], force=True).command("fox", changes)[3:]
    assert words == ["--wait-for-lock", "repro", "--force", "train", "export"]


def test_overrides_of_a_preset_are_changes_to_params_yaml(project):
    request = Request({"evolve.n_generations": 1, "network.init": {"beta": 0.5}}, preset="digits")
    params, changes = check_request(request)
    assert (params.evolve.n_generations, params.network.init.beta) == (1, 0.5)
    assert changes == ["network.init={beta:0.5}", "evolve.n_generations=1"]
    where = ["--wait-for-lock", "exp", "run", "--temp", "--name", "fox"]
    assert request.command("fox", changes)[3:] == [*where, *(f"--set-param={change}" for change in changes)]
    again = Request({"train.lr": 1}, ["train"], force=True)  # an experiment is forced too
    assert again.command("fox", ["train.lr=1"])[3:] == [*where, "--set-param=train.lr=1", "--force", "train"]
    options = ["--preset", "digits", "--set", "evolve.n_generations=1", "--set", 'network.init={"beta": 0.5}']
    assert request.options() == options and again.options() == ["--force", "--stage", "train", "--set", "train.lr=1"]


def make_images(folder):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            (folder / split / name / "1.png").touch()


def path_of_images(path: str) -> str:
    overrides = {"prepare.dataset": "folder", "prepare.image_size": 8, "prepare.path": path}
    params, changes = check_request(Request(overrides))
    assert params.prepare.path == path or f"prepare.path='{params.prepare.path}'" in changes
    return params.prepare.path


def test_images_that_an_experiments_copy_lacks_are_read_where_they_are(project):
    preset = load_preset("cifar10-small", "data/raw")
    found = experiment_values(preset.values, preset.params)
    assert found["prepare"]["path"] == str(project / "data/raw")  # git knows the readme in it alone
    make_images(project / "data/raw")
    assert path_of_images("data/raw") == str(project / "data/raw")
    make_images(project.parent / "imgs")
    (project / "data/imgs").symlink_to("../../imgs")
    run(project, "git", "add", "data/imgs")
    for path in ("../imgs", "data/imgs"):
        assert path_of_images(path) == f"{project}/{path}"


def test_a_file_of_an_own_network_that_git_does_not_track_is_named_before_the_run(project):
    (project / "networks").mkdir()
    (project / "networks/my_vgg.py").touch()
    request = Request({"network.name": "networks.my_vgg:MyVGG"})
    with pytest.raises(InputError, match=re.escape("no file that git does not track: `git add networks/my_vgg.py`")):
        check_request(request)
    run(project, "git", "add", "networks")
    assert check_request(request)[1] == ["network.name='networks.my_vgg:MyVGG'"]


def test_images_that_git_tracks_are_read_in_the_experiments_copy(project):
    make_images(project / "data/imgs")
    run(project, "git", "add", "data")
    assert path_of_images("data/imgs") == "data/imgs"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request({"evolve.n_generation": 1}), "--set: evolve.n_generation is not a known key: did you mean n_generations?"),
        (Request(preset="nothing"), "unknown preset 'nothing': choose one of "),
        (Request({"prepare.dataset": "folder", "prepare.path": "nowhere"}), "prepare.path = nowhere"),
        (Request(stages=["train", "fourth"]), "stages: unknown stage 'fourth': choose one of check, prepare, evolve, "),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_message(request_, message, committed, monkeypatch):
    monkeypatch.chdir(committed)
    before = (committed / "params.yaml").read_bytes()
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        check_request(request_)
    assert "\n" not in str(caught.value)
    assert (committed / "params.yaml").read_bytes() == before


def test_a_damaged_dvc_yaml_stops_a_run_before_dvc(project):
    (project / "dvc.yaml").write_text("stages: [")
    with pytest.raises(InputError, match=r"^dvc\.yaml: .*: `dvc repro --dry` shows what is wrong"):
        check_request(Request(stages=["train"]))


def test_an_experiment_needs_a_git_that_works(project):
    (project / ".git/config").write_text("[")
    with pytest.raises(InputError, match="git: bad config"):
        check_request(Request({"train.epochs": 3}))
    shutil.rmtree(project / ".git")
    with pytest.raises(InputError, match="project: no git commit of the project, which DVC's experiments need"):
        check_request(Request({"train.epochs": 3}))

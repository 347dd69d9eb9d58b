import subprocess
from pathlib import Path

import pytest

from gee_core.errors import InputError
from pipelines.commands import preset as queue
from pipelines.commands.preset import queue_preset
from pipelines.project import presets
from pipelines.project.presets import load_preset, write_preset

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def params(tmp_path, monkeypatch) -> Path:
    """The params.yaml of a project with this one's presets, the current folder."""
    monkeypatch.setattr(presets, "PRESETS", ROOT / "presets")
    monkeypatch.chdir(tmp_path)
    return Path("params.yaml")


def make_commit() -> None:
    """Make the folder a project that git knows."""
    Path("dvc.yaml").touch()
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (["init", "-q"], ["add", "dvc.yaml"], ["commit", "-qm", "start"]):
        subprocess.run(["git", *identity, *words], check=True)


@pytest.fixture
def dvc_calls(params, monkeypatch) -> list[list[str]]:
    """The commands of DVC that would have been run, in a git repository; they succeed."""
    make_commit()
    calls, run = [], subprocess.run
    done = subprocess.CompletedProcess([], 0, "", "")

    def record(command, **options):
        return run(command, **options) if command[0] == "git" else calls.append(command) or done

    monkeypatch.setattr(queue.subprocess, "run", record)
    return calls


def test_a_queued_preset_leaves_params_as_they_are_and_names_its_images_by_an_absolute_path(params, dvc_calls):
    write_preset(load_preset("digits"))
    before = params.read_bytes()
    changes = queue_preset("cifar10-tiny", load_preset("cifar10-tiny", "my/images"))
    assert params.read_bytes() == before
    assert f"prepare.path='{Path.cwd() / 'my/images'}'" in changes  # the copy that DVC makes of the project has no images
    (command,) = dvc_calls
    assert command[1:7] == ["-m", "dvc", "exp", "run", "--queue", "--name"]
    assert command[7:] == ["cifar10-tiny", *(f"--set-param={change}" for change in changes)]


def test_what_cannot_run_is_not_queued(params, dvc_calls):
    write_preset(load_preset("digits"))
    with pytest.raises(InputError, match="imagenet: no such folder"):
        queue_preset("imagenet-paper", load_preset("imagenet-paper"))
    params.write_text(params.read_text().replace("seed: 0", "seed: many", 1))
    with pytest.raises(InputError, match=r"base\.seed"):
        queue_preset("digits", load_preset("digits"))
    assert dvc_calls == []


def test_why_dvc_refuses_is_said_in_one_line_and_without_git_the_remedy_is_git(params):
    write_preset(load_preset("digits"))
    with pytest.raises(InputError) as caught:
        queue_preset("digits", load_preset("digits"))
    problem = f"{Path.cwd()}: no git commit of the project, which DVC's experiments need"
    remedy = "`git init`, `dvc config core.no_scm false`, then commit the project; or write params.yaml itself"
    assert str(caught.value) == f"{problem}: {remedy}"
    make_commit()  # no DVC
    Path("data/raw").mkdir(parents=True)
    with pytest.raises(InputError) as caught:
        queue_preset("digits", load_preset("digits"))
    assert str(caught.value).startswith("DVC cannot queue the experiment 'digits' (you are not inside of a DVC repository")
    assert "\n" not in str(caught.value)

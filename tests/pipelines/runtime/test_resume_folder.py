import hashlib
import shutil
from pathlib import Path

import pytest

import gee_core
from pipelines.runtime import resume_folder as scratch
from pipelines.runtime.resume_folder import clear_scratch, finish_scratch, scratch_folder


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("meta.json", "genotype.json"):
        (tmp_path / name).write_text(name)
    return [Path("meta.json"), Path("genotype.json")]


def test_the_same_run_finds_its_folder_again_with_all_that_is_in_it(make_params, inputs):
    params = make_params()
    folder = scratch_folder("train", [params.base, params.train], inputs)
    (folder / "state").write_text("half done")
    assert folder.parent == Path(".scratch/train")
    again = make_params()
    assert scratch_folder("train", [again.base, again.train], inputs) == folder
    assert (folder / "state").read_text() == "half done"


def test_anything_the_result_depends_on_gives_another_folder(make_params, inputs):
    params, slower = make_params(), make_params(train={"lr": 0.001})
    folders = [scratch_folder("train", [params.base, params.train], inputs)]
    folders.append(scratch_folder("train", [params.base, slower.train], inputs))
    folders.append(scratch_folder("evolve", [params.base, params.train], inputs))
    folders.append(scratch_folder("train", [params.base, params.train], inputs[:1]))
    inputs[1].write_text("another genotype")
    folders.append(scratch_folder("train", [params.base, params.train], inputs))
    assert len(set(folders)) == 5


@pytest.mark.parametrize("edited", ["gee_core/training/loop.py", "pipelines/train.py"])
def test_an_edit_of_the_code_gives_another_folder(edited, make_params, inputs, tmp_path, monkeypatch):
    core = Path(gee_core.__file__).parent
    for part in (core, Path(scratch.__file__).parent):
        shutil.copytree(part, tmp_path / "copy" / part.name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(gee_core, "__file__", str(tmp_path / "copy/gee_core/__init__.py"))
    monkeypatch.setattr(scratch, "__file__", str(tmp_path / "copy/pipelines/runtime/resume_folder.py"))
    before = scratch_folder("train", [make_params().train], inputs)
    assert scratch_folder("train", [make_params().train], inputs) == before
    with (tmp_path / "copy" / edited).open("a") as file:
        file.write("# edited\n")
    assert scratch_folder("train", [make_params().train], inputs) != before


def test_a_run_that_is_complete_is_forgotten_and_others_are_not(make_params, inputs):
    params = make_params()
    done, other = (scratch_folder(stage, [params.base], inputs) for stage in ("train", "evolve"))
    clear_scratch(done)
    clear_scratch(done)  # nothing there: no error
    assert not done.exists()
    assert other.is_dir()


def test_a_complete_run_stays_until_dvc_knows_its_result_or_another_is_run(make_params, inputs):
    params = make_params()
    folder = scratch_folder("train", [params.base], inputs)
    (folder / "state").write_text("all of it")
    Path("metrics.json").write_text("{}")
    finish_scratch(folder, Path("metrics.json"))
    assert scratch_folder("train", [params.base], inputs) == folder
    assert (folder / "state").exists()
    Path("dvc.lock").write_text(f"  md5: {hashlib.md5(b'{}').hexdigest()}\n")
    assert scratch_folder("train", [params.base], inputs) == folder
    assert list(folder.iterdir()) == []
    finish_scratch(folder, Path("metrics.json"))
    other = scratch_folder("train", [params.train], inputs)
    assert [path for path in other.parent.iterdir()] == [other]


def test_an_interrupted_run_stays_when_another_is_run(make_params, inputs):
    params = make_params()
    folder = scratch_folder("train", [params.base], inputs)
    (folder / "state").write_text("half done")
    scratch_folder("train", [params.train], inputs)
    assert (folder / "state").exists()

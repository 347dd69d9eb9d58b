import hashlib
import shutil
import threading
from pathlib import Path

import pytest

from pipelines.runtime import resume_folder
from pipelines.runtime.resume_folder import HELD, VALUES, at_work_in, finish_run, open_resume_folder


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("meta.json", "genotype.json"):
        (tmp_path / name).write_text(name)
    return [Path("meta.json"), Path("genotype.json")]


def test_the_same_run_finds_its_folder_again_and_anything_the_result_depends_on_gives_another(make_params, inputs):
    params, slower = make_params(), make_params(train={"lr": 0.001})
    folders = [open_resume_folder("train", [params.base, params.train], inputs)]
    assert folders[0].parent == Path(".scratch/train")
    again = make_params()
    assert open_resume_folder("train", [again.base, again.train], inputs) == folders[0]
    folders.append(open_resume_folder("train", [params.base, slower.train], inputs))
    folders.append(open_resume_folder("evolve", [params.base, params.train], inputs))
    folders.append(open_resume_folder("train", [params.base, params.train], inputs[:1]))
    folders.append(open_resume_folder("train", [params.base, params.train], inputs, extra="x"))
    inputs[1].write_text("another genotype")
    folders.append(open_resume_folder("train", [params.base, params.train], inputs))
    assert len(set(folders)) == 6


def test_an_edit_of_the_code_that_dvc_yaml_lists_gives_another_folder(make_params, inputs, tmp_path, monkeypatch):
    for part in ("gee_core", "pipelines"):
        shutil.copytree(resume_folder.CHECKOUT / part, tmp_path / "copy" / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(resume_folder.CHECKOUT / "dvc.yaml", tmp_path / "copy")
    monkeypatch.setattr(resume_folder, "CHECKOUT", tmp_path / "copy")
    for edited, counts in (("gee_core/training/loop.py", True), ("pipelines/train.py", True), ("pipelines/evolve.py", False)):
        before = open_resume_folder("train", [make_params().train], inputs)
        with (tmp_path / "copy" / edited).open("a") as file:
            file.write("# edited\n")
        assert (open_resume_folder("train", [make_params().train], inputs) != before) == counts


def started(params, inputs, section="base"):
    """The folder in which a stage has started, as its module opens it."""
    folder = open_resume_folder("train", [getattr(params, section)], inputs)
    with at_work_in(folder):
        return folder


def test_a_finished_run_is_kept_until_dvc_knows_its_result_or_another_is_run(make_params, inputs):
    params = make_params()
    folder = started(params, inputs)
    (folder / "state").write_text("all of it")
    Path("metrics.json").write_text("{}")
    finish_run(folder, Path("metrics.json"))
    assert started(params, inputs) == folder
    assert (folder / "state").exists()
    Path("dvc.lock").write_text(f"  md5: {hashlib.md5(b'{}').hexdigest()}\n")
    assert started(params, inputs) == folder
    assert not {path.name for path in folder.iterdir()} - {HELD}
    finish_run(folder, Path("metrics.json"))
    other = started(params, inputs, "train")
    assert list(other.parent.iterdir()) == [other]


def test_a_run_with_other_values_in_the_same_folder_begins_with_what_the_last_one_left(make_params, inputs):
    folder = open_resume_folder("evolve", [make_params().base], inputs)

    def run(values):
        """The names of the files that a run finds; it leaves its own."""
        with at_work_in(folder, values):
            found = {path.name for path in folder.iterdir()} - {HELD, VALUES}
            (folder / "scores").touch()
        return found

    Path("metrics.json").write_text("{}")
    Path("dvc.lock").write_text(f"  md5: {hashlib.md5(b'{}').hexdigest()}\n")
    assert run("3 generations") == set()
    finish_run(folder, Path("metrics.json"))
    assert run("4 generations") == {"scores"}  # DVC knows of the other one, which it does not continue
    assert run("4 generations") == {"scores"}  # it was interrupted
    finish_run(folder, Path("metrics.json"))
    assert run("4 generations") == set()  # it is to be recomputed
    assert run("3 generations") == {"scores"}


def test_a_copy_of_the_project_resumes_what_another_copy_began(make_params, inputs, tmp_path, monkeypatch):
    folders = []
    for name in ("tmpx1", "tmpx2"):
        copy = tmp_path / ".dvc/tmp/exps/standalone" / name
        copy.mkdir(parents=True)
        monkeypatch.chdir(copy)
        folders.append(open_resume_folder("train", [make_params().train], [tmp_path / path for path in inputs]))
    monkeypatch.chdir(tmp_path)
    folders.append(open_resume_folder("train", [make_params().train], inputs).absolute())
    assert folders == [folders[0]] * 3


def test_a_run_waits_for_one_that_is_the_same_and_finds_what_it_did(make_params, inputs, monkeypatch):
    folder, waits, found = open_resume_folder("train", [make_params().base], inputs), threading.Event(), []
    monkeypatch.setattr(resume_folder.console, "print", lambda *text, **_: waits.set())

    def second():
        with at_work_in(folder):
            found.append((folder / "state").exists())

    thread = threading.Thread(target=second)
    with at_work_in(folder):
        thread.start()
        waits.wait()
        (folder / "state").touch()
    thread.join()
    assert found == [True]


def test_an_interrupted_run_and_one_that_a_process_has_taken_up_again_are_kept(make_params, inputs):
    folder = started(make_params(), inputs)
    started(make_params(), inputs, "train")
    assert folder.is_dir()
    Path("metrics.json").write_text("{}")
    finish_run(folder, Path("metrics.json"))
    with at_work_in(folder):
        started(make_params(), inputs, "train")
        assert folder.is_dir()
    started(make_params(), inputs, "train")
    assert not folder.exists()

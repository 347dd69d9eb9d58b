import fcntl
import os
import shutil
import time

import pytest

from pipelines.commands.gc.scratch import scratch_leftovers
from pipelines.runtime.resume_folder import DONE

MD5 = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def make(tmp_path):
    """Makes a folder of .scratch with a file of 1,000 bytes, all of it ``days`` old."""

    def make(place: str, days: float = 0.0, done: str | None = None):
        folder = tmp_path / ".scratch" / place
        folder.mkdir(parents=True)
        (folder / "state").write_bytes(b"0" * 1000)
        if done is not None:
            (folder / DONE).write_text(done)
        then = time.time() - days * 86400
        for path in [*folder.iterdir(), folder]:
            os.utime(path, (then, then))
        return folder

    return make


def kinds(project, days: float) -> dict[str, tuple[int, int]]:
    return {found.what.split(",")[0]: (found.count, found.size) for found in scratch_leftovers(project, days)}


def remove(project, days: float) -> None:
    for found in scratch_leftovers(project, days):
        found.remove()


def test_an_interrupted_run_stays_until_it_is_old(make, tmp_path):
    old, young = make("evolve/a", days=31), make("train/b", days=29)
    assert kinds(tmp_path, 30) == {"runs of stages": (1, 1000)}
    assert old.exists()
    remove(tmp_path, 30)
    assert (old.exists(), young.exists()) == (False, True)
    assert scratch_leftovers(tmp_path, 30) == []


def test_one_young_file_keeps_an_old_folder(make, tmp_path):
    folder = make("evolve/a", days=99)
    (folder / "deep").mkdir()
    (folder / "deep/new").touch()
    then = time.time() - 99 * 86400
    for path in (folder / "deep", folder):
        os.utime(path, (then, then))
    assert scratch_leftovers(tmp_path, 30) == []


def test_what_was_written_within_the_hour_stays_whatever_is_asked_for(make, tmp_path):
    make("evolve/a", days=0.5 / 24)
    make("studies/evolve/b", days=0.5 / 24)
    make("train/d", days=0.5 / 24, done=MD5)
    (tmp_path / "dvc.lock").write_text(f"outs:\n- md5: {MD5}\n")
    assert scratch_leftovers(tmp_path, 0) == []
    make("evolve/c", days=2 / 24)
    assert kinds(tmp_path, 0) == {"runs of stages": (1, 1000)}


def test_a_complete_run_goes_once_dvc_has_its_result(make, tmp_path):
    folder = make("train/a", days=2 / 24, done=MD5)
    assert scratch_leftovers(tmp_path, 30) == []
    (tmp_path / "dvc.lock").write_text(f"outs:\n- md5: {MD5}\n")
    assert [found.what for found in scratch_leftovers(tmp_path, 30)] == ["runs of stages, finished"]
    remove(tmp_path, 30)
    assert not folder.exists()


@pytest.mark.parametrize("content", ["", "outs", "\0"])
def test_a_note_of_no_sense_makes_no_run_complete(content, make, tmp_path):
    make("train/a", days=2 / 24, done=content)
    (tmp_path / "dvc.lock").write_text(f"outs:\n- md5: {MD5}\n")
    assert scratch_leftovers(tmp_path, 30) == []


def test_a_step_of_a_study_that_a_process_is_in_stays(make, tmp_path):
    used, free = make("studies/train/a", days=99), make("studies/prepare/b", days=99)
    for folder in (used, free):
        (folder / "lock").touch()
        then = time.time() - 99 * 86400
        for path in (folder / "lock", folder):
            os.utime(path, (then, then))
    with (used / "lock").open("w") as file:
        os.utime(used / "lock", (1e9, 1e9))
        fcntl.flock(file, fcntl.LOCK_EX)
        remove(tmp_path, 30)
    assert (used.exists(), free.exists()) == (True, False)


@pytest.mark.parametrize("step", ["studies/prepare/a", "evolve/a"])
def test_what_a_process_has_locked_since_it_was_found_stays(step, make, tmp_path):
    used = make(step, days=99)
    (found,) = scratch_leftovers(tmp_path, 30)
    with (used / "lock").open("w") as file:
        for path in (used / "lock", used):
            os.utime(path, (1e9, 1e9))
        fcntl.flock(file, fcntl.LOCK_EX)
        found.remove()
    assert (used / "state").exists()
    found.remove()
    assert not used.exists()


def test_what_was_written_or_deleted_since_it_was_found_stops_nothing(make, tmp_path):
    folders = written, deleted, _ = [make(f"train/{name}", days=99) for name in "abc"]
    (found,) = scratch_leftovers(tmp_path, 30)
    os.utime(written / "state", (time.time() + 1,) * 2)
    shutil.rmtree(deleted)
    found.remove()
    assert [folder.exists() for folder in folders] == [True, False, False]


def test_nothing_else_in_scratch_is_ever_touched(make, tmp_path):
    others = [make("tracking/a", days=999), make("studies/other/b", days=999), make("elsewhere", days=999)]
    remove(tmp_path, 0)
    assert all(folder.exists() for folder in others)


def test_a_link_is_not_followed(make, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    os.utime(outside, (1e9, 1e9))
    make("evolve/a", days=99)
    (tmp_path / ".scratch/evolve/link").symlink_to(outside)
    (tmp_path / ".scratch/train").symlink_to(outside)
    remove(tmp_path, 30)
    assert (outside / "precious").exists()


def test_what_a_gc_that_was_stopped_has_moved_aside_goes(make, tmp_path):
    make("removing/a")
    remove(tmp_path, 30)
    assert not (tmp_path / ".scratch/removing").exists()


def test_a_database_of_mlflow_that_a_killed_process_was_making_goes(make, tmp_path):
    old, young = make("mlflow/.mlflow-a", days=2 / 24), make("mlflow/.mlflow-b", days=0.5 / 24)
    assert kinds(tmp_path, 30) == {"databases of MLflow": (1, 1000)}
    remove(tmp_path, 30)
    assert (old.exists(), young.exists()) == (False, True)


def test_without_scratch_there_is_nothing(tmp_path):
    assert scratch_leftovers(tmp_path, 0) == []


def test_a_copy_that_a_killed_experiment_left_goes_once_it_is_old(make, tmp_path):
    of_queue, by_hand = make("../.dvc/tmp/exps/tmpa1", days=31), make("../.dvc/tmp/exps/standalone/tmpb2", days=31)
    others = make("../.dvc/tmp/exps/standalone/tmpc3", days=29), make("../.dvc/tmp/exps/celery", days=99)
    assert kinds(tmp_path, 30) == {"copies of the project of killed experiments": (2, 2000)}
    remove(tmp_path, 30)
    assert not (of_queue.exists() or by_hand.exists())
    assert all(folder.exists() for folder in others)

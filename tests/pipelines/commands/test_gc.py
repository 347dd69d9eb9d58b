"""`gee gc`: what goes, and what stays because it is in use, recent or somebody else's."""

import fcntl
import os
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import psutil
import pytest
from filelock import FileLock

from pipelines.commands import gc as module
from pipelines.commands.gc import at_work, delete, leftovers
from pipelines.runtime.run_files import Record

MD5 = "0123456789abcdef0123456789abcdef"
HOUR = 1 / 24


def age(folder: Path, days: float) -> None:
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (time.time() - days * 86400,) * 2)


@pytest.fixture
def make(tmp_path):
    """Makes a folder of .scratch with a file of 1,000 bytes, all of it ``days`` old."""

    def make(place: str, days: float = 0.0, **files: str) -> Path:
        folder = tmp_path / ".scratch" / place
        folder.mkdir(parents=True)
        for name, content in {"state": "0" * 1000, **files}.items():
            (folder / name).write_text(content)
        age(folder, days)
        return folder

    return make


def done(md5: str) -> dict[str, str]:
    """The run.json of a finished run."""
    return {"run.json": Record(level="stage", status="FINISHED", md5=md5).model_dump_json()}


def remove(project: Path, days: int) -> list[str]:
    """Delete everything that can go; how many of what."""
    found = leftovers(project, days)
    delete([folder for folders in found.values() for folder in folders], project / ".scratch/removing")
    return [f"{len(folders)} {kind.partition(', older')[0]}" for kind, folders in found.items()]


def test_what_is_old_goes_and_what_is_younger_or_of_another_program_stays(make, tmp_path):
    old = [make("runs/evolve-a", 31), make("runs/step-train-c", 31), make("../.dvc/tmp/exps/tmpa1", 31)]
    old += [make("../.dvc/tmp/exps/standalone/tmpb2", 31), make("removing/a")]
    kept = [make("runs/train-b", 29), make("runs/step-prepare-d", 29), make("runs/evolve-young-below", 99)]
    kept += [make("tracking/a", 999), make("runs/other-b", 999), make("elsewhere", 999), make("../.dvc/tmp/exps/celery", 99)]
    (kept[2] / "deep").mkdir()
    (kept[2] / "deep/new").touch()
    for path in (kept[2] / "deep", kept[2]):
        os.utime(path, (1e9, 1e9))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").touch()
    age(tmp_path / "outside", 99)
    (tmp_path / ".scratch/runs/evolve-link").symlink_to(tmp_path / "outside")  # not followed
    assert remove(tmp_path, 30) == [
        "1 runs of stages in .scratch, interrupted",
        "1 steps of studies in .scratch/runs",
        "2 copies of the project in .dvc/tmp/exps",
    ]
    assert not any(folder.exists() for folder in old) and all(folder.exists() for folder in kept)
    assert (tmp_path / "outside/precious").exists() and remove(tmp_path, 30) == []


def test_a_complete_run_goes_once_dvc_has_its_result(make, tmp_path):
    folder, other = make("runs/train-a", 2 * HOUR, **done(MD5)), make("runs/train-b", 2 * HOUR, **done("f" * 32))
    young = [make("runs/train-c", HOUR / 2, **done(MD5)), make("runs/evolve-d", HOUR / 2)]
    assert leftovers(tmp_path, 30) == {}
    (tmp_path / "dvc.lock").write_text(f"outs:\n- md5: {MD5}\n")
    make("runs/train-old", 31, **done(MD5))  # which is not counted as interrupted too
    assert remove(tmp_path, 30) == ["2 runs of stages in .scratch, finished"]
    assert (folder.exists(), other.exists()) == (False, True)
    assert remove(tmp_path, 0) == ["1 runs of stages in .scratch, interrupted"]
    assert all(folder.exists() for folder in young)


def test_a_folder_that_a_process_holds_stays(make, tmp_path):
    used, free = make("runs/step-train-a", 99, lock=""), make("runs/step-prepare-b", 99, lock="")
    with (used / "lock").open("w") as file:
        age(used, 99)
        fcntl.flock(file, fcntl.LOCK_EX)
        assert remove(tmp_path, 30) == ["1 steps of studies in .scratch/runs"]
    assert (used.exists(), free.exists()) == (True, False)


def process(words: str, folder: Path, pid: int) -> SimpleNamespace:
    """One that psutil tells of."""
    return SimpleNamespace(cmdline=words.split, cwd=lambda: str(folder), pid=pid)


@pytest.mark.parametrize(
    ("words", "works"),
    [
        ("python -u -m pipelines.evolve", True),
        ("python -m dvc --wait-for-lock repro -s train", True),
        ("python /opt/bin/gee study run ablation", True),
        ("python -m pipelines.cli study run ablation", True),
        ("python -m prefect.engine", True),
        ("python /opt/bin/gee flow serve --cron x", False),
        ("python -m pipelines.cli gc --yes", False),
        ("vim pipelines/train.py", False),
    ],
)
def test_who_is_at_work_is_known_by_the_command_line_and_the_folder(words, works, tmp_path):
    places = [(tmp_path / "a", 7), (tmp_path / "a/.dvc/tmp/exps/x", 8), (tmp_path / "ab", 9), (tmp_path / "a", os.getpid())]
    processes = [process(words, folder, pid) for folder, pid in places]
    processes.append(SimpleNamespace(cwd=Mock(side_effect=psutil.AccessDenied(10))))
    assert at_work(processes, tmp_path / "a") == ([f"7 {words}", f"8 {words}"] if works else [])


@pytest.fixture
def gc(main, make, bare_project):
    """Runs `gee gc` in a project with an interrupted run that is 40 days old; its exit code, output and messages."""
    make("runs/evolve-old", 40).parents[1].replace(bare_project / ".scratch")

    def run(*arguments: str) -> tuple[int, str, str]:
        code, out, err = main("gc", *arguments)
        return code, " ".join(out.split()), err

    return run


def test_it_only_shows_what_would_go_until_it_is_told_yes(gc, bare_project):
    state = bare_project / ".scratch/runs/evolve-old/state"
    code, out, _ = gc()
    assert code == 0 and "interrupted, older than" in out and "1.0 kB" in out
    assert "Nothing was deleted; `gee gc --yes`" in out and "`dvc gc --workspace`" in out and state.is_file()
    out = gc("--days", "50", "--yes")[1]
    assert "Nothing to delete" in out and "--older-than 50d" in out and state.is_file()
    code, out, _ = gc("--yes")
    assert code == 0 and f"Deleted in {bare_project}" in out and not state.exists()
    with FileLock(bare_project / ".scratch/flow.lock").acquire(timeout=0):  # it is free again
        pass


def test_nothing_goes_while_a_stage_is_at_work_and_it_does_not_wait_for_a_flow_run(gc, bare_project, monkeypatch):
    with monkeypatch.context() as working:
        working.setattr(module, "at_work", lambda processes, project: ["77 python -m pipelines.train"])
        code, out, _ = gc("--yes")
    assert code == 0 and "is kept, because these are running: 77 python -m pipelines.train" in out
    with FileLock(bare_project / ".scratch/flow.lock"):
        assert gc("--yes")[0] == 2
    assert (bare_project / ".scratch/runs/evolve-old").exists()

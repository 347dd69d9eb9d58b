"""`gee gc`: what goes, and what stays because it is in use, recent or somebody else's."""

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from filelock import FileLock

from gee_core.errors import InputError
from pipelines.commands import gc as module
from pipelines.commands.gc import at_work, dvc_leftovers, mlflow_leftovers, scratch_leftovers

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


def remove(project: Path, days: float) -> list[str]:
    """Delete everything in scratch that can go; how many of what."""
    found = scratch_leftovers(project, days)
    for leftover in found:
        leftover.remove()
    return [f"{leftover.count} {leftover.what.partition(', older')[0]}" for leftover in found]


def test_what_is_old_goes_and_what_is_younger_or_of_another_program_stays(make, tmp_path):
    old = [make("evolve/a", 31), make("studies/train/c", 31), make("../.dvc/tmp/exps/tmpa1", 31)]
    old += [make("../.dvc/tmp/exps/standalone/tmpb2", 31), make("removing/a")]
    kept = [make("train/b", 29), make("studies/prepare/d", 29)]
    kept += [make("tracking/a", 999), make("studies/other/b", 999), make("elsewhere", 999), make("../.dvc/tmp/exps/celery", 99)]
    assert scratch_leftovers(tmp_path, 30)[0].size == 1000 and all(folder.exists() for folder in old)
    assert remove(tmp_path, 30) == [
        "1 runs of stages, interrupted",
        "1 steps of studies",
        "2 copies of the project of killed experiments",
        "1 left behind by an interrupted `gee gc`",
    ]
    assert not any(folder.exists() for folder in old) and all(folder.exists() for folder in kept)
    assert not (tmp_path / ".scratch/removing").exists()
    assert remove(tmp_path, 30) == []


def test_one_young_file_deep_below_keeps_an_old_folder(make, tmp_path):
    folder = make("evolve/a", 99)
    (folder / "deep").mkdir()
    age(folder, 99)
    (folder / "deep/new").touch()
    for path in (folder / "deep", folder):
        os.utime(path, (1e9, 1e9))
    assert scratch_leftovers(tmp_path, 30) == []


def test_what_was_written_within_the_hour_stays_whatever_is_asked_for(make, tmp_path):
    for place in ("evolve/a", "studies/evolve/b"):
        make(place, HOUR / 2)
    make("train/d", HOUR / 2, done=MD5)
    (tmp_path / "dvc.lock").write_text(f"outs:\n- md5: {MD5}\n")
    assert scratch_leftovers(tmp_path, 0) == []
    make("evolve/c", 2 * HOUR)
    assert remove(tmp_path, 0) == ["1 runs of stages, interrupted"]


def test_a_complete_run_goes_once_dvc_has_its_result(make, tmp_path):
    folder, other = make("train/a", 2 * HOUR, done=MD5), make("train/b", 2 * HOUR, done="outs")
    assert scratch_leftovers(tmp_path, 30) == []
    (tmp_path / "dvc.lock").write_text(f"outs:\n- md5: {MD5}\n")
    assert remove(tmp_path, 30) == ["1 runs of stages, finished"]
    assert (folder.exists(), other.exists()) == (False, True)


def test_a_folder_that_a_process_holds_stays_also_when_it_is_held_after_it_was_found(make, tmp_path):
    used, free = make("studies/train/a", 99, lock=""), make("studies/prepare/b", 99, lock="")
    (both,) = scratch_leftovers(tmp_path, 30)
    with (used / "lock").open("w") as file:
        age(used, 99)
        fcntl.flock(file, fcntl.LOCK_EX)
        assert [found.count for found in scratch_leftovers(tmp_path, 30)] == [1]
        both.remove()
    assert (used.exists(), free.exists()) == (True, False)


def test_what_was_written_or_deleted_since_it_was_found_stops_nothing(make, tmp_path):
    folders = written, deleted, _ = [make(f"train/{name}", 99) for name in "abc"]
    (found,) = scratch_leftovers(tmp_path, 30)
    os.utime(written / "state", (time.time() + 1,) * 2)
    shutil.rmtree(deleted)
    found.remove()
    assert [folder.exists() for folder in folders] == [True, False, False]


def test_a_link_is_not_followed(make, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").touch()
    age(tmp_path / "outside", 99)
    make("evolve/a", 99)
    (tmp_path / ".scratch/evolve/link").symlink_to(tmp_path / "outside")
    remove(tmp_path, 30)
    assert (tmp_path / "outside/precious").exists()


class Process:
    def __init__(self, words: str, cwd: Path, pid: int = 7):
        self.words, self.folder, self.pid = words.split(), cwd, pid

    def cmdline(self):
        if self.words == ["denied"]:
            raise psutil.AccessDenied(self.pid)
        return self.words

    def cwd(self):
        return str(self.folder)


@pytest.mark.parametrize(
    ("words", "works"),
    [
        ("python -u -m pipelines.evolve", True),
        ("python /opt/bin/dvc repro", True),
        ("python -m dvc --wait-for-lock repro -s train", True),
        ("python /opt/bin/gee study run ablation", True),
        ("python -m pipelines.cli study run ablation", True),
        ("gee flow run", True),
        ("python -m prefect.engine", True),
        ("python /opt/bin/gee flow serve --cron x", False),
        ("python -m pipelines.cli gc --yes", False),
        ("python -m mlflow server", False),
        ("vim pipelines/train.py", False),
        ("denied", False),
    ],
)
def test_who_is_at_work_is_known_by_the_command_line(words, works, tmp_path):
    assert at_work([Process(words, tmp_path)], tmp_path) == ([f"7 {words}"] if works else [])


def test_work_in_a_copy_for_an_experiment_counts_and_in_another_project_or_of_this_process_does_not(tmp_path):
    places = [(tmp_path / "a/.dvc/tmp/exps/x", 1), (tmp_path / "ab", 2), (tmp_path / "a", os.getpid())]
    processes = [Process("python -m pipelines.train", folder, pid) for folder, pid in places]
    assert at_work(processes, tmp_path / "a") == ["1 python -m pipelines.train"]


@pytest.fixture
def gc(main, make, bare_project, tmp_path, monkeypatch):
    """Runs `gee gc` in a project with an interrupted run that is 40 days old; its exit code, output and messages."""
    make("evolve/old", 40).parents[1].replace(bare_project / ".scratch")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        code, out, err = main("gc", *arguments)
        return code, " ".join(out.split()), err

    return run


def test_it_only_shows_what_would_go_until_it_is_told_yes(gc, bare_project, monkeypatch):
    asked = []
    for store in ("dvc", "mlflow"):
        monkeypatch.setattr(module, f"{store}_leftovers", lambda *_, store=store: asked.append(store) or [])
    state = bare_project / ".scratch/evolve/old/state"
    code, out, _ = gc()
    assert code == 0 and "interrupted, older than" in out and "1.0 kB" in out
    assert "Nothing was deleted; `gee gc --yes`" in out and state.is_file()
    assert gc("--days", "50", "--yes")[1] == "Nothing to delete" and state.is_file()
    assert asked == []
    code, out, _ = gc("--yes", "--dvc", "--mlflow")
    assert code == 0 and f"Deleted in {bare_project}" in out and not state.exists()
    assert asked == ["mlflow", "dvc"]
    with FileLock(bare_project / ".scratch/flow.lock").acquire(timeout=0):  # it is free again
        pass


@pytest.mark.parametrize("days", ["-1", "36501", "nan"])
def test_a_number_of_days_without_a_date_is_refused(days, gc):
    assert gc("--mlflow", "--days", days) == (2, "", f"gee: error: --days {float(days):g}: out of range: choose 0 to 36500\n")


def test_nothing_in_scratch_goes_while_a_stage_is_at_work(gc, bare_project, monkeypatch):
    monkeypatch.setattr(module, "at_work", lambda processes, project: ["77 python -m pipelines.train"])
    code, out, _ = gc("--yes")
    assert code == 0 and "are kept, because these are running: 77 python -m pipelines.train" in out
    assert (bare_project / ".scratch/evolve/old").exists()


def test_it_does_not_wait_for_a_flow_run_that_is_at_work(gc, bare_project, monkeypatch):
    def held(project, on_wait):
        assert on_wait is None
        raise InputError("another flow run is running")

    monkeypatch.setattr("pipelines.orchestration.flow_lock.flow_lock", held)
    assert gc("--yes")[::2] == (2, "gee: error: another flow run is running\n")
    assert (bare_project / ".scratch/evolve/old").exists()


def database(project: Path, *deleted_days_ago: float | None) -> None:
    """An mlflow.db with a run for each, None for one that is not deleted; each has 500 bytes of artifacts."""
    with closing(sqlite3.connect(project / "mlflow.db")) as db:
        db.execute("create table runs (lifecycle_stage text, deleted_time integer, artifact_uri text)")
        for days in deleted_days_ago:
            folder = project / "mlartifacts" / f"a b {uuid4().hex}"
            folder.mkdir(parents=True)
            (folder / "x").write_bytes(b"0" * 500)
            then = None if days is None else int((time.time() - days * 86400) * 1000)
            db.execute("insert into runs values (?, ?, ?)", ("active" if days is None else "deleted", then, folder.as_uri()))
        db.commit()


@pytest.mark.parametrize("address", [None, "sqlite:///{project}/mlflow.db"])
def test_only_what_was_deleted_in_mlflow_long_ago_goes_and_mlflow_does_it(address, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "_run", lambda project, *command: asked.append(command))
    if address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(project=tmp_path))
    assert mlflow_leftovers(tmp_path, 30) == []
    database(tmp_path, None, 5, 31, 400)
    [found] = mlflow_leftovers(tmp_path, 30)
    assert (found.count, found.size, asked) == (2, 1000, [])
    found.remove()
    [command] = asked
    assert command[:2] == ("mlflow", "gc") and command[-2:] == ("--older-than", "30d")
    assert f"sqlite:///{tmp_path}/mlflow.db" in command


def test_a_store_elsewhere_and_a_damaged_database_are_named(tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").write_bytes(b"no database at all " * 99)
    with pytest.raises(InputError, match=r"mlflow\.db: cannot be read \(file is not a database\): if it is damaged, move it"):
        mlflow_leftovers(tmp_path, 30)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    with pytest.raises(InputError, match=r"MLFLOW_TRACKING_URI = http://127\.0\.0\.1:5000 is another store: run `mlflow gc`"):
        mlflow_leftovers(tmp_path, 30)


@pytest.mark.slow
def test_dvc_says_what_the_workspace_does_not_use_and_removes_that_alone(tmp_path):
    def dvc(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=tmp_path, check=True, capture_output=True)

    with pytest.raises(InputError, match=r"`dvc gc --workspace --dry` failed: .*"):
        dvc_leftovers(tmp_path)
    dvc("init", "--no-scm")
    for content in ("first" * 100, "now"):
        (tmp_path / "dvc.yaml").write_text(f"stages: {{a: {{cmd: echo {content} > x, outs: [x]}}}}")
        dvc("repro")
    [found] = dvc_leftovers(tmp_path)
    assert (found.count, found.size) == (1, 501)
    found.remove()
    assert dvc_leftovers(tmp_path) == []
    (tmp_path / "x").unlink()
    dvc("checkout")
    assert (tmp_path / "x").read_text() == "now\n"


@pytest.mark.slow
def test_mlflow_removes_the_run_that_was_deleted_and_keeps_the_other(tmp_path):
    code = """
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlflow.db")
experiment = client.create_experiment("gee", "ARTIFACTS")
for name in ("deleted", "kept"):
    run = client.create_run(experiment, run_name=name).info.run_id
    client.log_text(run, name, "text")
    if name == "deleted":
        client.delete_run(run)
"""
    command = [sys.executable, "-c", code.replace("ARTIFACTS", (tmp_path / "a").as_uri())]
    subprocess.run(command, cwd=tmp_path, check=True)
    [found] = mlflow_leftovers(tmp_path, 0)
    assert (found.count, found.size) == (1, len("deleted"))
    found.remove()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as db:
        assert db.execute("select name from runs").fetchall() == [("kept",)]
    assert [path.read_text() for path in (tmp_path / "a").rglob("text")] == ["kept"]

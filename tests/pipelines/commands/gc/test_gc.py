import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from gee_core.errors import InputError
from pipelines.commands.gc.cli import bytes_for_people

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with an interrupted run of 2 MB, 40 days old, that nobody works on."""
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    folder = tmp_path / ".scratch/evolve/old"
    folder.mkdir(parents=True)
    (folder / "state").write_bytes(b"0" * 2_000_000)
    for path in (folder / "state", folder):
        os.utime(path, (time.time() - 40 * 86400,) * 2)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def gc(main):
    """Runs `gee gc`; its exit code, output and messages."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code, out, err = main("gc", *arguments)
        return code, " ".join(out.split()), err

    return run


def test_it_only_shows_what_would_go_until_it_is_told_yes(gc, project):
    code, out, _ = gc()
    assert code == 0
    assert "interrupted, older than" in out
    assert "2.0 MB" in out
    assert "Nothing was deleted; `gee gc --yes`" in out
    assert (project / ".scratch/evolve/old/state").is_file()
    code, out, _ = gc("--yes")
    assert code == 0
    assert f"Deleted in {project}" in out
    assert not (project / ".scratch/evolve/old").exists()
    assert gc("--yes")[1] == "Nothing to delete"


def test_days_say_what_is_old(gc, project):
    assert gc("--days", "50", "--yes")[1] == "Nothing to delete"
    assert (project / ".scratch/evolve/old").exists()


@pytest.mark.parametrize("days", ["-1", "36501", "1e300", "inf", "nan"])
def test_a_number_of_days_without_a_date_is_refused(days, gc, project):
    (project / "mlflow.db").touch()
    assert gc("--mlflow", "--days", days) == (2, "", f"gee: error: --days {float(days):g}: out of range: choose 0 to 36500\n")


def test_nothing_in_scratch_goes_while_a_stage_is_at_work(gc, project, monkeypatch):
    monkeypatch.setattr("pipelines.commands.gc.at_work.at_work", lambda processes, project: ["77 python -m pipelines.train"])
    code, out, _ = gc("--yes")
    assert code == 0
    assert "are kept, because these are running" in out
    assert "77 python -m pipelines.train" in out
    assert (project / ".scratch/evolve/old").exists()


def test_it_does_not_wait_for_a_flow_run_that_is_at_work(gc, project, monkeypatch):
    def held(project, on_wait):
        assert on_wait is None
        raise InputError("another flow run is running")

    monkeypatch.setattr("pipelines.orchestration.flow_lock.flow_lock", held)
    code, _, err = gc("--yes")
    assert (code, err) == (2, "gee: error: another flow run is running\n")
    assert (project / ".scratch/evolve/old").exists()


def test_dvc_and_mlflow_are_asked_only_on_request(gc, project, monkeypatch):
    asked = []
    monkeypatch.setattr("pipelines.commands.gc.stores.dvc_leftovers", lambda project: asked.append("dvc") or [])
    monkeypatch.setattr("pipelines.commands.gc.stores.mlflow_leftovers", lambda *_: asked.append("mlflow") or [])
    gc()
    assert asked == []
    gc("--dvc", "--mlflow")
    assert sorted(asked) == ["dvc", "mlflow"]


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, "?"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (1.25e12, "1,250.0 GB")],
)
def test_sizes_are_for_people(size, text):
    assert bytes_for_people(size) == text


def test_the_lock_of_a_gc_ends_with_it(gc, project):
    gc("--yes")
    with FileLock(project / ".scratch/flow.lock").acquire(timeout=0):  # an instance of its own, which waits for any other
        pass

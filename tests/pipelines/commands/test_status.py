"""`gee status`, `gee gc`, and the answers of other commands as JSON."""

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, Mock

import psutil
import pytest
from dvc.lock import LockError

from pipelines.commands.status import find_at_work
from pipelines.project.presets import describe_presets
from pipelines.runtime.run_files import Record, write_record
from pipelines.runtime.run_folder import runs_root
from tests.project_copy import ROOT


def test_status_names_what_is_stale_what_runs_and_what_waits(main, bare_project, monkeypatch):
    changed = {"a": "modified", "params.yaml": {"train.lr": "modified"}, "b": "deleted", "c": "new"}
    says = {"train": [{"changed deps": changed}], "report": ["always changed"]}
    repo = MagicMock()
    repo.return_value.__exit__.return_value = None  # no error is suppressed
    repo.return_value.__enter__.return_value.status.side_effect = [says, says, {}, LockError("busy"), LockError("busy"), {}]
    monkeypatch.setattr("dvc.repo.Repo", repo)
    monkeypatch.setattr("pipelines.commands.status.find_at_work", lambda *_: ["17 python -m pipelines.train"])
    code, out, _ = main("status")
    assert code == 0
    assert out.splitlines() == [
        "stale    train: modified a, changed params.yaml, deleted b and 1 more",
        "stale    report: always changed",
        "running  17 python -m pipelines.train",
        "MLflow   has everything",
        "Next     `gee run` runs what is stale",
    ]
    assert json.loads(main("status", "--json")[1])["stale"]["train"][:2] == ["modified a", "changed params.yaml"]
    assert main("status")[1].endswith("All stages are up to date\n")
    assert main("status")[1].startswith("stale    not known while DVC compares the files itself: ask again\n")
    assert json.loads(main("status", "--json")[1])["stale"] is None
    write_record(runs_root() / "train-1", Record(level="stage", store="sqlite:///mlflow.db", start=1, status="FINISHED"))
    assert "MLflow   1 runs wait: `gee track replay` sends them, or says why not" in main("status")[1]


@pytest.mark.parametrize("command", ["preset list", "pretrained", "study list", "gc"])
def test_tables_are_json_where_that_is_asked_for(command, main, bare_project):
    shutil.copytree(ROOT / "studies", bare_project / "studies")
    code, out, err = main(*command.split(), "--json")
    assert not err
    found = json.loads(out)
    assert code == 0
    if command == "preset list":
        assert set(found) == set(describe_presets()) and set(found["digits"]) == {"what_for", "data", "time"}


def test_another_folder_is_worked_in(main, bare_project, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main("-C", bare_project, "summary")[0] == 2
    assert main("-C", tmp_path / "nowhere", "summary")[0] == 2


def make_process(words: str, folder: Path, pid: int) -> SimpleNamespace:
    """A process as psutil describes it."""
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
        ("python -m pipelines.cli gc", False),
        ("vim pipelines/train.py", False),
    ],
)
def test_who_is_at_work_is_known_by_the_command_line_and_the_folder(words, works, tmp_path):
    places = [(tmp_path / "a", 7), (tmp_path / "a/.dvc/tmp/exps/x", 8), (tmp_path / "ab", 9), (tmp_path / "a", os.getpid())]
    processes = [make_process(words, folder, pid) for folder, pid in places]
    processes.append(SimpleNamespace(cwd=Mock(side_effect=psutil.AccessDenied(10))))
    assert find_at_work(processes, tmp_path / "a") == ([f"7 {words}", f"8 {words}"] if works else [])


def test_gc_lists_old_folders_with_their_size_and_the_command_and_deletes_nothing(main, bare_project):
    day, now = 86400, time.time()
    places = {"train-a": 40, "evolve-young": 9, "step-evolve-b c": 50}
    places = {f".scratch/runs/{name}": days for name, days in places.items()} | {".dvc/tmp/exps/tmpx": 99}
    for place, days in (places | {".scratch/runs/pipeline-a": 99, "elsewhere/a": 99}).items():
        (folder := bare_project / place).mkdir(parents=True)
        (folder / "state").write_text("0" * 1000)
        for path in (folder / "state", folder):
            os.utime(path, (now - days * day, now - days * day - 60))
    (bare_project / ".scratch/runs/train-link").symlink_to(bare_project / "elsewhere")
    found = {row["folder"]: (row["days"], row["bytes"] >= 1000) for row in json.loads(main("gc", "--json")[1])}
    assert found == {place: (days, True) for place, days in places.items() if days > 30}
    out = main("gc", "--days", "45")[1]
    assert "  rm -r .dvc/tmp/exps/tmpx '.scratch/runs/step-evolve-b c'\n" in out and "--older-than 45d" in out
    assert "of 2 folders" in out and (bare_project / ".scratch/runs/train-a/state").is_file()

"""`gee status`, and the answers of other commands as JSON."""

import json
import shutil
from pathlib import Path

import pytest
from dvc.lock import LockError

from pipelines.commands import status
from pipelines.project.presets import describe_presets

ROOT = Path(__file__).resolve().parents[3]


class Repository:
    """DVC's, with what `dvc status` says of it."""

    def __init__(self, says: dict | Exception):
        self.says = says

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def status(self):
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def test_status_names_what_is_stale_what_runs_and_what_waits(main, bare_project, monkeypatch):
    says = {"train": [{"changed deps": {"a": "modified", "params.yaml": {"train.lr": "modified"}, "b": "deleted", "c": "new"}}]}
    monkeypatch.setattr("dvc.repo.Repo", lambda: Repository(says))
    monkeypatch.setattr("pipelines.commands.gc.at_work", lambda *_: ["17 python -m pipelines.train"])
    code, out, _ = main("status")
    assert code == 0
    assert out.splitlines() == [
        "stale    train: modified a, changed params.yaml, deleted b and 1 more",
        "running  17 python -m pipelines.train",
        "MLflow   has everything",
        "Next     `gee run` runs what is stale",
    ]
    assert json.loads(main("status", "--json")[1])["stale"]["train"][:2] == ["modified a", "changed params.yaml"]
    assert status._changed(["always changed"]) == ["always changed"]
    monkeypatch.setattr("dvc.repo.Repo", lambda: Repository({}))
    assert main("status")[1].endswith("All stages are up to date\n")
    monkeypatch.setattr("dvc.repo.Repo", lambda: Repository(LockError("busy")))
    assert main("status")[1].startswith("stale    not known while DVC compares the files itself: ask again\n")
    assert json.loads(main("status", "--json")[1])["stale"] is None


@pytest.mark.parametrize("command", ["preset list", "pretrained", "track status", "study list", "gc"])
def test_tables_are_json_where_that_is_asked_for(command, main, bare_project):
    for name in ("presets", "studies"):
        shutil.copytree(ROOT / name, bare_project / name)
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

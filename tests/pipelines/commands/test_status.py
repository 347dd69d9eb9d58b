"""`gee status`, and the answers of other commands as JSON."""

import json
import shutil
from unittest.mock import MagicMock

import pytest
from dvc.lock import LockError

from pipelines.project.presets import describe_presets
from tests.project_copy import ROOT


def test_status_names_what_is_stale_what_runs_and_what_waits(main, bare_project, monkeypatch):
    changed = {"a": "modified", "params.yaml": {"train.lr": "modified"}, "b": "deleted", "c": "new"}
    says = {"train": [{"changed deps": changed}], "report": ["always changed"]}
    repo = MagicMock()
    repo.return_value.__exit__.return_value = None  # no error is suppressed
    repo.return_value.__enter__.return_value.status.side_effect = [says, says, {}, LockError("busy"), LockError("busy")]
    monkeypatch.setattr("dvc.repo.Repo", repo)
    monkeypatch.setattr("pipelines.commands.gc.at_work", lambda *_: ["17 python -m pipelines.train"])
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


@pytest.mark.parametrize("command", ["preset list", "pretrained", "track status", "study list", "gc"])
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

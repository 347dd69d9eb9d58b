import json
import os
import subprocess
import sys

import pytest

from pipelines.orchestration import damaged_dvc_files as dvc_files
from pipelines.orchestration.damaged_dvc_files import set_aside_damaged_dvc_files

LOCK = """\
schema: '2.0'
stages:
  prepare:
    cmd: python -m pipelines.prepare
    params:
      params.yaml:
        prepare:
          dataset: digits
    outs:
    - path: data/prepared
      hash: md5
      md5: c4ca4238a0b923820dcc509a6f75849b.dir
      size: 1
      nfiles: 2
"""


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_lock_that_dvc_takes_stays(tmp_path, caplog):
    set_aside_damaged_dvc_files()  # none yet
    (tmp_path / "dvc.lock").write_text(LOCK)
    set_aside_damaged_dvc_files()
    assert (tmp_path / "dvc.lock").read_text() == LOCK
    assert caplog.messages == []


@pytest.mark.parametrize(
    "content",
    [b"", LOCK[:5].encode(), LOCK[:20].encode(), LOCK[:40].encode(), LOCK.encode()[:-30] + b"\xff", b"[]", b"a: [", b"a: b"],
)
def test_a_lock_that_was_cut_off_is_moved_away_with_one_warning(content, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(dvc_files, "WRITING", 0.0)
    (tmp_path / "dvc.lock").write_bytes(content)
    set_aside_damaged_dvc_files()
    assert not (tmp_path / "dvc.lock").exists()
    assert (tmp_path / ".scratch/dvc.lock.damaged").read_bytes() == content
    (message,) = caplog.messages
    assert message.startswith("dvc.lock: damaged, moved to ")
    assert "`git checkout dvc.lock`" in message


def test_a_lock_that_another_dvc_is_writing_stays(tmp_path, monkeypatch):
    path = tmp_path / "dvc.lock"
    path.write_text("")
    monkeypatch.setattr(dvc_files.time, "sleep", lambda seconds: path.write_text(LOCK))
    set_aside_damaged_dvc_files()
    assert path.read_text() == LOCK


@pytest.mark.parametrize("content", ["", '{"write": {"/a": {"pid": 1', '{"write": 1}', "[]"])
def test_an_rwlock_that_was_cut_off_is_deleted_with_one_warning(content, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(dvc_files, "WRITING", 0.0)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    path = tmp_path / ".dvc/tmp/rwlock"
    path.write_text(content)
    set_aside_damaged_dvc_files()
    assert not path.exists()
    (message,) = caplog.messages
    assert message.startswith(".dvc/tmp/rwlock: damaged, deleted")


def test_an_rwlock_that_dvc_takes_stays(tmp_path, caplog):
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    path = tmp_path / ".dvc/tmp/rwlock"
    path.write_text('{"write": {"/a": {"pid": 1, "cmd": "dvc repro"}}, "read": {}}')
    set_aside_damaged_dvc_files()
    assert path.exists()
    assert caplog.messages == []


@pytest.fixture
def living():
    """Starts a process; its entry in the rwlock."""
    processes = []

    def start() -> dict:
        processes.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL))
        return {"pid": processes[-1].pid, "cmd": "dvc repro"}

    yield start
    for process in processes:
        process.communicate()


def test_entries_with_the_pid_of_a_process_that_is_younger_than_the_rwlock_and_no_dvc_are_removed(
    living, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(dvc_files.psutil.Process, "cmdline", lambda self: [names[self.pid]])
    foreign, dvc = living(), living()
    names = {foreign["pid"]: "browser", dvc["pid"]: "dvc"}
    path = tmp_path / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True)
    content = {"write": {"/a": foreign, "/b": dvc}, "read": {"/c": [foreign, dvc], "/d": [foreign]}}
    path.write_text(json.dumps(content))
    set_aside_damaged_dvc_files()
    assert json.loads(path.read_text()) == content
    assert caplog.messages == []
    os.utime(path, (1e9, 1e9))
    set_aside_damaged_dvc_files()
    assert json.loads(path.read_text()) == {"write": {"/b": dvc}, "read": {"/c": [dvc]}}
    (message,) = caplog.messages
    assert message.startswith(".dvc/tmp/rwlock: entries of a `dvc` that was killed are removed")

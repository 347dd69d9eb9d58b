import errno
import os
import platform
import resource
import signal
import stat
import subprocess
import sys

import pytest

from gee_core.errors import InputError
from gee_core.storage.atomic_files import write_atomically, write_json


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_the_mode_of_the_umask_and_a_replaced_file_keeps_its_own(tmp_path):
    before = os.umask(0o027)
    try:
        for name, kept in {"secret": 0o600, "shared": 0o664}.items():
            (tmp_path / name).touch()
            (tmp_path / name).chmod(kept)
            write_atomically(tmp_path / name, "content")
        write_atomically(tmp_path / "folder/new", "σ = 1\n")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "secret"), mode(tmp_path / "shared"), mode(tmp_path / "folder/new")) == (0o600, 0o664, 0o640)
    assert (tmp_path / "folder/new").read_bytes() == "σ = 1\n".encode()
    assert names(tmp_path) == ["folder", "secret", "shared"] and names(tmp_path / "folder") == ["new"]


def test_a_file_appears_only_once_its_content_is_on_disk_and_then_so_is_its_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def flush(handle):
        events.append("flush folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "flush")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("rename"), replace(*paths)))
    write_atomically(tmp_path / "file", "content")
    assert events == ["flush", "rename", "flush folder"]


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        ("open", OSError(errno.EACCES, "Permission denied"), r"cannot be written \(permission denied\): make it writable"),
        ("fsync", OSError(errno.ENOSPC, "No space left on device"), r"cannot be written \(no space left .*\): free some space"),
        ("replace", KeyboardInterrupt("Ctrl-C"), "Ctrl-C"),
    ],
)
def test_a_write_that_breaks_off_leaves_the_old_file_alone(step, error, message, tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises((InputError, KeyboardInterrupt), match=message):
            write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_disk_that_is_full_in_mid_file_keeps_the_old_one(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "old")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(InputError, match=r"cannot be written \(file too large\): raise the limit"):
            write_atomically(path, "new" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    path = tmp_path / "[file]"
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    here = platform.node()
    left = f".[file].{here}.{killed.pid}-abc"
    others = [
        f".[file].{here}.{os.getpid()}-def",
        f".[file].not-{here}.{killed.pid}-abc",
        f".other.{here}.{killed.pid}-abc",
        ".[file].x-y",
    ]
    for name in (left, *others):
        (tmp_path / name).write_text("half a fi")
    write_atomically(path, "content")
    assert names(tmp_path) == sorted([*others, "[file]"])


def test_json_that_no_other_program_could_read_is_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"b": 1, "a": 0.1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"accuracy": float("nan")})
    assert path.read_text() == '{\n  "b": 1,\n  "a": 0.1\n}\n'


def test_no_file_takes_the_place_of_a_pipe_or_a_device_but_of_a_link(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe: cannot be written \(not a file\): a pipe or a device lies there"):
        write_atomically(tmp_path / "pipe", "content")
    assert names(tmp_path) == ["pipe"] and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    (tmp_path / "link").symlink_to("pipe")
    write_atomically(tmp_path / "link", "content")
    assert (tmp_path / "link").read_text() == "content"

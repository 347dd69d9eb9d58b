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


def test_a_file_holds_its_content_and_nothing_lies_beside_it(tmp_path):
    content, written = "σ = 1\n", "σ = 1\n".encode()
    path = tmp_path / "new" / "folder" / "file"
    write_atomically(path, content)
    assert path.read_bytes() == written
    assert names(path.parent) == ["file"]


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
def test_who_may_read_a_new_file_is_what_the_umask_says_and_a_file_that_is_replaced_keeps_its_mode(umask, tmp_path):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "new", "content")
        for name, kept in {"secret": 0o600, "shared": 0o664}.items():
            (tmp_path / name).touch()
            (tmp_path / name).chmod(kept)
            write_atomically(tmp_path / name, "content")
        (tmp_path / "link").symlink_to(tmp_path / "secret")
        write_atomically(tmp_path / "link", "content")
    finally:
        os.umask(before)
    assert mode(tmp_path / "new") == mode(tmp_path / "link") == 0o666 & ~umask
    assert (mode(tmp_path / "secret"), mode(tmp_path / "shared")) == (0o600, 0o664)
    assert names(tmp_path) == ["link", "new", "secret", "shared"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
def test_a_write_that_breaks_off_leaves_the_old_file_alone(step, error, tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


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


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "(no space left on device): free some space"),
        (errno.EACCES, "(permission denied): make it writable"),
        (errno.ENOENT, "(no such file or directory): its folder is gone, or takes no new files: choose another folder"),
        (errno.EIO, "(input/output error): the disk reports a fault"),
    ],
)
def test_a_disk_that_takes_nothing_more_is_one_message_and_the_old_file_stays(step, number, remedy, tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(InputError) as caught:
            write_atomically(path, "new")
    assert str(caught.value).startswith(f"{path}: cannot be written (")
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)
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


def test_what_a_killed_process_left_goes_with_the_next_write_and_what_others_are_writing_stays(tmp_path):
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


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "models").write_text("")
    with pytest.raises(InputError, match=r"models/network: cannot be written \(file exists\): a file lies where a"):
        write_atomically(tmp_path / "models/network", "new")


def test_the_names_of_new_folders_are_on_disk_before_a_file_is_in_them(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (flushed.append(os.fstat(handle).st_ino), fsync(handle)))
    write_atomically(tmp_path / "a/b/file", "content")
    inodes = [path.stat().st_ino for path in (tmp_path, tmp_path / "a", tmp_path / "a/b/file", tmp_path / "a/b")]
    assert flushed == inodes


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_that_no_other_program_could_read_is_refused_and_the_old_file_stays(number, tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"b": 1, "a": 0.1})
    before = path.read_text()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"accuracy": number})
    assert path.read_text() == before == '{\n  "b": 1,\n  "a": 0.1\n}\n'

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from gee_core.errors import InputError
from pipelines.orchestration.flow_lock import HOLDER, RWLOCK, check_dvc_files, flow_lock, wait_for_other_dvc

ROOT = Path(__file__).resolve().parents[3]
HOLDS = """
import sys
from pathlib import Path
from pipelines.orchestration.flow_lock import flow_lock
with flow_lock(Path(sys.argv[1]), None):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()


def test_the_second_says_whom_it_waits_for_and_goes_on_at_the_firsts_end(holder, tmp_path):
    heard = []

    def end_first(line: str) -> None:
        heard.append(line)
        threading.Timer(0.2, holder.stdin.close).start()

    with flow_lock(tmp_path, end_first):
        assert (tmp_path / HOLDER).read_text().startswith(f"process {os.getpid()} on ")
    [line] = heard
    assert f"another run is at work in {tmp_path} (process {holder.pid} on " in line
    assert "waits for its end" in line


def test_whoever_does_not_wait_gets_one_message_until_the_holder_is_killed(holder, tmp_path):
    named = rf"at work in {tmp_path} \(process {holder.pid} on .*: wait for its end, or stop it"
    with pytest.raises(InputError, match=named) as caught, flow_lock(tmp_path, None):
        pass
    assert "\n" not in str(caught.value)
    holder.kill()
    holder.wait()
    with flow_lock(tmp_path, None):
        pass


def test_one_process_may_take_the_lock_within_itself_and_keeps_it_until_the_outer_end(tmp_path):
    def other_process() -> int:
        command = [sys.executable, "-c", HOLDS, str(tmp_path)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, stdin=subprocess.DEVNULL).returncode

    with flow_lock(tmp_path, None):
        with flow_lock(tmp_path, None):
            pass
        assert other_process() == 1
    assert other_process() == 0


@pytest.fixture
def other(tmp_path):
    """A process that DVC has listed as reading a file of the project, until its stdin is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", "input()", "dvc"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        (tmp_path / RWLOCK).parent.mkdir(parents=True)
        (tmp_path / RWLOCK).write_text(json.dumps({"read": {"/a": [{"pid": process.pid, "cmd": "/dvc/__main__.py repro"}]}}))
        yield process
        process.communicate()


def test_a_dvc_that_somebody_else_started_is_waited_for_and_named_once(other, tmp_path):
    heard = []

    def end(line: str) -> None:
        heard.append(line)
        other.communicate()

    assert wait_for_other_dvc(tmp_path, end)
    name = f"process {other.pid}, `dvc repro`"
    assert heard == [f"another run is at work in {tmp_path} ({name}); this one waits for its end"]
    assert not wait_for_other_dvc(tmp_path, heard.append)  # DVC leaves the entries of a killed process
    assert len(heard) == 1


def test_a_process_that_has_the_pid_of_a_killed_dvc_is_not_waited_for(other, tmp_path, monkeypatch):
    monkeypatch.setattr(psutil.Process, "cmdline", lambda self: ["browser"])
    assert not wait_for_other_dvc(tmp_path, pytest.fail)


@pytest.mark.parametrize("content", [None, "{}", '{"write": {"/a": {"pid": 1'])
def test_nobody_is_waited_for_where_no_dvc_is_at_work(content, tmp_path):
    if content is not None:
        (tmp_path / RWLOCK).parent.mkdir(parents=True)
        (tmp_path / RWLOCK).write_text(content)
    assert not wait_for_other_dvc(tmp_path, pytest.fail)


LOCK = "schema: '2.0'\nstages:\n  first:\n    cmd: echo 1 > a\n"


@pytest.mark.parametrize(
    ("path", "content", "remedy"),
    [
        ("dvc.lock", LOCK[:20], "`git checkout dvc.lock`"),
        ("dvc.lock", "", "`git checkout dvc.lock`"),
        (".dvc/tmp/rwlock", '{"write": {"/a": {"pid": 1', "`rm .dvc/tmp/rwlock`"),
    ],
)
def test_a_file_of_dvc_that_was_cut_off_is_named_with_the_command_that_helps(path, content, remedy, tmp_path):
    check_dvc_files(tmp_path)  # there are none yet
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / path).write_text(content)
    with pytest.raises(InputError, match=f"^{path}: damaged: {remedy}"):
        check_dvc_files(tmp_path)
    assert (tmp_path / path).read_text() == content

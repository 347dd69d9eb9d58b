import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gee_core.errors import InputError
from pipelines.orchestration.flow_lock import HOLDER, check_dvc_lock, flow_lock

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

    def end_first() -> None:
        heard.append("ends")
        holder.stdin.close()

    def wait(line: str) -> None:
        heard.append(line)
        threading.Timer(0.2, end_first).start()

    with flow_lock(tmp_path, wait):
        heard.append("goes on")
        assert (tmp_path / HOLDER).read_text().startswith(f"process {os.getpid()} on ")
    line, *after = heard
    assert after == ["ends", "goes on"]
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


LOCK = "schema: '2.0'\nstages:\n  first:\n    cmd: echo 1 > a\n"


@pytest.mark.parametrize("content", [LOCK[:20], ""])
def test_a_dvc_lock_that_was_cut_off_is_named_with_the_command_that_helps(content, tmp_path):
    path = tmp_path / "dvc.lock"
    check_dvc_lock(tmp_path)  # there is none yet
    path.write_text(content)
    with pytest.raises(InputError, match=r"^dvc\.lock: damaged: `git checkout dvc\.lock`"):
        check_dvc_lock(tmp_path)
    assert path.read_text() == content
    path.write_text(LOCK)
    check_dvc_lock(tmp_path)

import contextlib
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from gee_core.errors import InputError
from pipelines.orchestration.flow_lock import HOLDER, flow_lock
from pipelines.runtime.process_tree import process_key

ROOT = Path(__file__).resolve().parents[3]
HOLDS = """
import sys
from pathlib import Path
from pipelines.orchestration.flow_lock import flow_lock
with flow_lock(Path(sys.argv[1]), None):
    print("held", flush=True)
    input()
"""

WAITER = """
import sys
from pathlib import Path
from pipelines.orchestration.flow_lock import flow_lock
from pipelines.runtime.process_tree import exit_on_sigterm
exit_on_sigterm()
with flow_lock(Path(sys.argv[1]), lambda line: print(line, flush=True)):
    print("held", flush=True)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
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
        assert (tmp_path / HOLDER).read_text() == process_key(psutil.Process())
    [line] = heard
    assert f"another run is at work in {tmp_path} (process {holder.pid} on " in line
    assert f"since {datetime.now():%Y-}" in line
    assert "waits for its end" in line


def test_whoever_does_not_wait_gets_one_message(holder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = rf"at work in {tmp_path} \(process {holder.pid} on .*: wait for its end, or stop it"
    with pytest.raises(InputError, match=named) as caught, flow_lock(Path(), None):
        pass
    assert "\n" not in str(caught.value)


def test_a_holder_that_is_killed_gives_the_lock_free(holder, tmp_path):
    holder.kill()
    holder.wait()
    with flow_lock(tmp_path, None):
        assert (tmp_path / HOLDER).read_text() == process_key(psutil.Process())


def test_whoever_waits_can_be_stopped(holder, tmp_path):
    with subprocess.Popen([sys.executable, "-c", WAITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as waiter:
        assert f"(process {holder.pid} on " in waiter.stdout.readline()
        waiter.terminate()
        assert waiter.wait(600) == 143
        assert waiter.stdout.read() == ""


def test_one_process_may_take_the_lock_within_itself_and_keeps_it_until_the_outer_end(tmp_path):
    code = (
        "from pathlib import Path\n"
        "from pipelines.orchestration.flow_lock import flow_lock\n"
        f"with flow_lock(Path({str(tmp_path)!r}), None): 0"
    )

    def other_process() -> int:
        return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode

    with flow_lock(tmp_path, None):
        with flow_lock(tmp_path, None):
            pass
        assert other_process() == 1
    assert other_process() == 0


def test_projects_do_not_wait_for_each_other(holder, tmp_path):
    with flow_lock(tmp_path / "another", None):
        assert holder.poll() is None


def test_a_holder_file_of_no_sense_is_no_reason_to_fail(holder, tmp_path):
    (tmp_path / HOLDER).write_text("")
    with pytest.raises(InputError, match="a process that has just started"), flow_lock(tmp_path, None):
        pass

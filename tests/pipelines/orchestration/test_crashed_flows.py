import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pipelines.orchestration.crashed_flows import GRACE, OWNER, TAG, end_orphaned_servers, orphaned_servers, why_abandoned
from pipelines.runtime.process_tree import process_key

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SERVER = ["python", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--port", "8001"]
HERE = process_key(psutil.Process())
GONE = HERE.rsplit("/", 2)[0] + "/999999999/1"
ELSEWHERE = "elsewhere/999999999/1"


def why(*tags: str, age: timedelta = timedelta()) -> str | None:
    return why_abandoned(list(tags), NOW - age, NOW)


def test_a_run_is_abandoned_once_its_process_is_gone():
    assert "its process 999999999 on " in why("mine", TAG + GONE)
    assert why(TAG + HERE, age=timedelta(days=9)) is None


def test_a_run_on_another_machine_is_that_machines_to_judge():
    assert why(TAG + ELSEWHERE, age=timedelta(days=9)) is None


def test_a_run_that_no_process_takes_up_is_abandoned_after_a_while():
    assert why("mine", age=GRACE / 2) is None
    assert "no process has started it within 10 minutes" in why("mine", age=2 * GRACE)


@dataclass
class Server:
    pid: int = 1
    words: list = field(default_factory=lambda: SERVER)
    env: dict = field(default_factory=dict)
    owner: int = field(default_factory=os.getuid)

    def cmdline(self):
        return self.words

    def environ(self):
        if self.env is None:
            raise psutil.AccessDenied(self.pid)
        return self.env

    def cwd(self):
        return "/somewhere"

    def uids(self):
        return SimpleNamespace(real=self.owner)


OURS = {"PREFECT__SERVER_EPHEMERAL": "1", OWNER: GONE, "PREFECT_HOME": "/project/.prefect"}


@pytest.mark.parametrize(
    ("why", "server", "orphaned"),
    [
        ("started by a flow of ours that is gone", Server(env=OURS), True),
        ("a home relative to its folder", Server(env=OURS | {"PREFECT_HOME": "../project/.prefect"}), True),
        ("its flow lives", Server(env=OURS | {OWNER: HERE}), False),
        ("its flow is on another machine", Server(env=OURS | {OWNER: ELSEWHERE}), False),
        ("of another project", Server(env=OURS | {"PREFECT_HOME": "/other/.prefect"}), False),
        ("no home", Server(env={OWNER: GONE, "PREFECT__SERVER_EPHEMERAL": "1"}), False),
        ("`prefect server start` in a flow's environment", Server(env=OURS | {"PREFECT__SERVER_EPHEMERAL": ""}), False),
        ("started by Prefect for the user's own script", Server(env={k: v for k, v in OURS.items() if k != OWNER}), False),
        ("another program", Server(words=["python", "-m", "http.server"], env=OURS), False),
        ("another user's", Server(env=OURS, owner=os.getuid() + 1), False),
        ("not ours to look into", Server(env=None), False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_which_servers_are_orphans(why, server, orphaned, tmp_path):
    assert list(orphaned_servers([server], Path("/project/.prefect"))) == ([server] if orphaned else [])


def test_an_orphan_ends_and_a_process_beside_it_does_not(tmp_path):
    code = "import sys\nprint('up', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", code, "prefect.server.api.server:create_app"]
    home = {"PREFECT_HOME": str(tmp_path / ".prefect")}
    with (
        subprocess.Popen(command, env=OURS | home, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as orphan,
        subprocess.Popen(command, env=OURS | home | {OWNER: HERE}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
    ):
        assert orphan.stdout.readline() == other.stdout.readline() == b"up\n"
        assert end_orphaned_servers(tmp_path / ".prefect") == [orphan.pid]
        assert orphan.poll() is not None
        assert other.poll() is None

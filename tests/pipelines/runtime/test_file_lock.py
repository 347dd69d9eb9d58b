import subprocess
import sys

import pytest

from gee_core.errors import InputError
from pipelines.runtime.process_tree import file_lock
from tests.project_copy import ROOT

HOLDER = """
import sys
from pathlib import Path
from pipelines.runtime.process_tree import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def test_whoever_does_not_wait_is_told_and_a_holder_that_is_killed_releases_the_lock(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with file_lock(path, wait=False) as held:
            assert not held
        with file_lock(path, wait=False) as held:  # the first try has not taken it away
            assert not held
        holder.kill()
        holder.wait()
        with file_lock(path) as held:
            assert held


def test_a_lock_that_cannot_be_made_is_bad_input(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file lies where a folder should be"), file_lock(tmp_path / "file/lock"):
        pass

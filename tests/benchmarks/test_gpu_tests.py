"""How the command for a GPU runs the tests: on others, on the CPU."""

import subprocess
import time
from pathlib import Path

import pytest

from benchmarks import gpu_tests
from benchmarks.gpu_tests import are_complete, run_tests, summary

TESTS = """
import time
import pytest

def test_passes(): pass

@pytest.mark.parametrize("name", ["a, b"])
def test_fails(name): assert FAILS != name, "as it should"

def test_skips(): pytest.skip("why not")

def test_hangs(): time.sleep(HANGS)
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Another working folder, in which a new process finds the benchmarks."""
    monkeypatch.setenv("PYTHONPATH", str(Path(gpu_tests.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)


def test_tests_that_did_not_run_or_failed_run_again_and_no_others(elsewhere, monkeypatch):
    file, log = Path("test_these.py"), Path("log")
    file.write_text(TESTS.replace("FAILS", '"a, b"').replace("HANGS", "100"))
    waited = subprocess.Popen.wait

    def until_one_hangs(process, timeout=None):
        while timeout and process.poll() is None:
            if "SKIPPED" in log.read_text():
                raise subprocess.TimeoutExpired(process.args, timeout)
            time.sleep(0.05)
        return waited(process)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "wait", until_one_hangs)
        first = run_tests(str(file), "cpu", {}, log, 600)
    assert {name.split("::")[1]: outcome for name, outcome in first["outcomes"].items()} == {
        "test_passes": "PASSED",
        "test_fails[a, b]": "FAILED",
        "test_skips": "SKIPPED",
    }
    assert first["collected"] == 4
    assert not are_complete(first)
    file.write_text(
        TESTS.replace("FAILS", '"b"').replace("HANGS", "0").replace("def test_passes(): pass", "def test_passes(): 1/0")
    )
    second = run_tests(str(file), "cpu", first, log, 600)
    assert "test_passes" not in log.read_text()
    assert summary(second) == "3 passed, 1 skipped of 4"
    assert are_complete(second)
    assert second["reasons"] == {}


LOSES_THE_GPU = """
lost = []

def test_loses():
    lost.append(1)
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

def test_passes(): assert not lost

def test_fails(): assert False
"""


def test_tests_behind_one_that_loses_the_gpu_run_in_a_new_process(elsewhere):
    file = Path("test_these.py")
    file.write_text(LOSES_THE_GPU)
    found = run_tests(str(file), "cpu", {}, Path("log"), 600)
    assert summary(found) == "2 failed, 1 passed of 3"
    assert {name.split("::")[1] for name in found["reasons"]} == {"test_loses", "test_fails"}
    assert Path("log").read_text().count("test session starts") == 2


def test_the_reason_of_a_failure_is_kept(elsewhere):
    file = Path("test_this.py")
    file.write_text("def test_it():\n    assert False, 'as it should'\n")
    (reason,) = run_tests(str(file), "cpu", {}, Path("log"), 600)["reasons"].values()
    assert "as it should" in reason
    missing = run_tests("absent.py", "cpu", {}, Path("log"), 600)
    assert "absent.py" in missing["reasons"]["pytest"]
    assert not are_complete(missing)

"""Part `tests` of ``benchmarks.gpu``: tests/cuda in a process of its own, test by test, so that a stopped run is continued."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gee_core.memory import lost_gpu

DONE = ("PASSED", "SKIPPED")
OUTCOME = re.compile(r"^(\S+\.py::.*?) (PASSED|FAILED|SKIPPED|ERROR|XFAIL|XPASS)\b", re.MULTILINE)
REASON = re.compile(r"^(?:FAILED|ERROR) (\S+\.py(?:::.*?)?) - (.+)$", re.MULTILINE)
LOST = "this process has lost its GPU"
COLLECTED = re.compile(r"collected (\d+) items?")


def run_tests(target: str, device: str, known: dict, log: Path, seconds: float) -> dict:
    """Run the tests in ``target`` that ``known``, an earlier result, does not have as passed or skipped.

    Those behind one that loses the GPU run in a new process.

    Args:
        target: a file or folder, or several, with spaces between.
        device: what GEE_TEST_DEVICE tells them.
        known: what this function returned before; empty at first.
        log: the file for pytest's output.
        seconds: after which the run is ended.

    Returns:
        {outcomes: by test, reasons: of those that failed, collected: number of all tests, or None if pytest did not say}.
    """
    outcomes = {name: outcome for name, outcome in known.get("outcomes", {}).items() if outcome in DONE}
    reasons: dict[str, str] = {}
    collected, end = known.get("collected"), time.monotonic() + seconds
    log.write_text("")
    while True:
        text, code = _run_pytest(target, device, list(outcomes), log, end - time.monotonic())
        ran = dict(OUTCOME.findall(text))
        outcomes |= ran
        reasons |= {name: reason[:300] for name, reason in REASON.findall(text)}
        if found := COLLECTED.search(text):
            collected = int(found[1])
        if code not in (0, 1, 5, -signal.SIGKILL) and not reasons:
            reasons["pytest"] = " ".join(text.split())[-300:]
        if code != 1 or LOST not in text or not ran:
            return {"outcomes": outcomes, "reasons": reasons, "collected": collected}


def _run_pytest(target: str, device: str, left_out: list[str], log: Path, seconds: float) -> tuple[str, int]:
    """What pytest said, which is added to ``log``, and its exit code."""
    options = ["-v", "--tb=short", "--color=no", "-p", "no:cacheprovider", "-p", __name__]
    options += [f"--deselect={name}" for name in left_out]
    environment = os.environ | {"GEE_TEST_DEVICE": device, "PYTHONUNBUFFERED": "1", "COLUMNS": "250"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the tests need none, and a machine may have slow ones
    start = log.stat().st_size
    with log.open("a") as file:
        command = [sys.executable, "-m", "pytest", *target.split(), *options]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that decode images
            process.wait()
    return log.read_bytes()[start:].decode(errors="replace"), process.returncode


def pytest_exception_interact(node: Any, call: Any) -> None:
    """In the process of pytest: end where a test has lost the GPU, after which every other one would fail there."""
    if lost_gpu(call.excinfo.value):
        node.session.shouldfail = LOST


def are_complete(found: dict) -> bool:
    """Whether every test has run and none failed."""
    outcomes = list(found.get("outcomes", {}).values())
    return bool(outcomes) and len(outcomes) == found.get("collected") and all(outcome in DONE for outcome in outcomes)


def summary(found: dict) -> str:
    """Such as "40 passed, 1 skipped of 42"."""
    outcomes = list(found["outcomes"].values())
    counts = {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)}
    return f"{', '.join(f'{n} {outcome.lower()}' for outcome, n in counts.items()) or 'none ran'} of {found['collected']}"

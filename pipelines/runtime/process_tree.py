"""Process clean-up: processes end on SIGTERM, together with the `dvc` or flow that started them, and as whole groups."""

import atexit
import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

PARENT = "GEE_PARENT"
"""Environment variable: the PID of the process that called `run_in_group`."""

_groups: set[int] = set()
_ending = threading.Event()


def is_rank() -> bool:
    """Whether this is one of several processes that compute together, by torchrun's variables."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


def started_by_command() -> bool:
    """Whether a command of this project started this process as one of several, and reports its errors."""
    return is_rank() and multiprocessing.parent_process() is not None


def exit_on_sigterm() -> None:
    """Turn the first SIGTERM into ``SystemExit(143)``, so that `finally` blocks run. Only the main thread can."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _exit)


def _exit(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one, sent when dvc ends, would interrupt the clean-up
    sys.exit(143)


def leave() -> None:
    """End this process, which has done its work, without Python's teardown: once torch is loaded, that takes half a second."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def dvc_ancestor() -> psutil.Process | None:
    """The nearest `dvc repro` or `dvc exp …` above this process; `dvc exp run --run-all` has one for each experiment."""
    return next((process for process in psutil.Process().parents() if is_dvc_run(process)), None)


def is_dvc_run(process: psutil.Process) -> bool:
    """Whether ``process`` is a `dvc repro` or a `dvc exp …`, by its command line."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    names = [Path(word).name for word in words[:3]]  # dvc …, python dvc …, python -m dvc …
    return "dvc" in names and bool({"repro", "exp", "experiments"} & set(words[names.index("dvc") + 1 :]))


def process_key(process: psutil.Process) -> str:
    """``host/pid/start``: identifies a process across machines, even after its PID is reused."""
    return f"{socket.gethostname()}/{process.pid}/{_start(process)}"


def _start(process: psutil.Process) -> int:
    """Start time in clock ticks since boot, which clock changes do not affect; without /proc in seconds since 1970."""
    stat = Path(f"/proc/{process.pid}/stat")
    return int(stat.read_text().rpartition(")")[2].split()[19]) if stat.exists() else round(process.create_time())


def is_gone(key: str) -> bool:
    """Whether the process with this `process_key` has ended; False for a process of another machine."""
    host, pid, started = key.rsplit("/", 2)
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(pid))
        return process.status() == psutil.STATUS_ZOMBIE or abs(_start(process) - int(started)) > 2
    except (psutil.NoSuchProcess, OSError):
        return True


def die_with_parent(interval: float = 0.5, grace: float = 10.0) -> None:
    """End this process with the one it works for: the nearest `dvc`, the flow, torch's launcher or a worker's owner.

    It gets SIGTERM, and after ``grace`` seconds SIGKILL, with its children. A shell is no such process, as with `nohup`.
    """
    pids = [owner.pid for owner in (dvc_ancestor(), multiprocessing.parent_process()) if owner]
    if PARENT in os.environ:
        pids.append(int(os.environ[PARENT]))
    if is_rank():
        pids.append(os.getppid())
    if pids:
        threading.Thread(target=_watch, args=(pids, interval, grace), name="die-with-parent", daemon=True).start()


def _watch(pids: list[int], interval: float, grace: float) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        watched = [psutil.Process(pid) for pid in pids]
        while all(map(_is_alive, watched)):
            time.sleep(interval)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(143)


def run_in_group(
    command: Sequence[str],
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    on_line: Callable[[str], object] = lambda line: None,
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` in its own process group; it ends with this process or by `kill_groups`. ``env`` is added to ours.

    ``on_line`` gets each line of stdout and stderr as it is printed; the result's ``stdout`` holds all of them.
    """
    if _ending.is_set():
        raise RuntimeError(f"not started, because this process is ending: {' '.join(command)}")
    with subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {}), PARENT: str(os.getpid())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout
        _groups.add(process.pid)
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                on_line(line.rstrip())
            return subprocess.CompletedProcess(command, process.wait(), stdout="".join(lines))
        except BaseException:
            _end_trees({process.pid})
            raise
        finally:
            _groups.discard(process.pid)


def run_in_foreground(command: Sequence[str]) -> int:
    """Run ``command`` on this terminal and return its exit code; if this process is stopped first, its whole tree is ended."""
    process = subprocess.Popen(command, env={**os.environ, PARENT: str(os.getpid())})
    try:
        return process.wait()
    except BaseException as stop:
        with contextlib.suppress(subprocess.TimeoutExpired):  # a Ctrl-C reaches DVC too, which then frees its locks
            process.wait(10 if isinstance(stop, KeyboardInterrupt) else 0)
        _end_trees({process.pid})
        process.wait()
        raise


@atexit.register
def kill_groups(grace: float = 10.0) -> None:
    """End every group of `run_in_group`: SIGTERM, then SIGKILL after ``grace`` seconds. No new group can start afterwards."""
    _ending.set()
    _end_trees(set(_groups), grace)


def _end_trees(roots: set[int], grace: float = 10.0) -> None:
    """End the processes ``roots`` and all below them. It reaps none: whoever waits for one gets its exit code."""
    found: list[psutil.Process] = []
    for pid in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    deadline = time.monotonic() + grace
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        while any(map(_is_alive, found)) and time.monotonic() < deadline:
            time.sleep(0.1)


def _is_alive(process: psutil.Process) -> bool:
    """Whether ``process`` is running; a zombie is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

"""Processes of this machine: they end on SIGTERM, with the `dvc` or flow that started them, as whole trees; and their locks."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from gee_core.storage.atomic_files import writing

PARENT = "GEE_PARENT"
"""Environment variable: the PID of the process that called `followed` or `run_in_foreground`."""


def is_rank() -> bool:
    """Whether this is one of several processes that `torchrun` started to compute together."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


def exit_on_sigterm() -> None:
    """Turn the first SIGTERM into ``SystemExit(143)``, so that `finally` blocks run. Only the main thread can."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _exit)


def _exit(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one, sent when dvc ends, would interrupt the clean-up
    sys.exit(143)


def dvc_ancestor() -> psutil.Process | None:
    """The nearest `dvc repro` or `dvc exp …` above this process; `dvc exp run --run-all` has one for each experiment."""
    return next((process for process in psutil.Process().parents() if is_dvc_run(process)), None)


def is_dvc_run(process: psutil.Process) -> bool:
    """Whether ``process`` is a `dvc repro` or a `dvc exp …`, by its command line."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    names = [Path(word).name.rpartition(".")[2] for word in words[:3]]  # dvc …, python dvc …, python -m dvc …
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
    with suppress(psutil.NoSuchProcess):
        watched = [psutil.Process(pid) for pid in pids]
        while all(map(_is_alive, watched)):
            time.sleep(interval)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(143)


@contextmanager
def followed(command: Sequence[str], env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run ``command`` in its own process group. The lines that it prints to stdout and stderr are those of ``stdout``.

    At the end of the body it is waited for. If the body is left by an error or a signal, its whole tree is ended.
    ``env`` is added to the environment of this process.
    """
    with (
        subprocess.Popen(
            command,
            env={**os.environ, **(env or {}), PARENT: str(os.getpid())},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process,
        _ended_with_body(process.pid),
    ):
        yield process


def run_in_foreground(command: Sequence[str]) -> int:
    """Run ``command`` on this terminal and return its exit code; if this process is stopped first, its whole tree is ended."""
    process = subprocess.Popen(command, env={**os.environ, PARENT: str(os.getpid())})
    with _ended_with_body(process.pid):
        try:
            while process.poll() is None:  # `wait` answers to a Ctrl-C a quarter of a second late
                time.sleep(0.1)
            return process.returncode
        except KeyboardInterrupt:
            print("\ngee: stopping …", file=sys.stderr, flush=True)
            with suppress(subprocess.TimeoutExpired):  # the Ctrl-C reaches DVC too, which then frees its locks
                process.wait(10)
            raise


@contextmanager
def _ended_with_body(pid: int, grace: float = 10.0) -> Iterator[None]:
    """If the body raises, end the process ``pid`` and all below it: SIGTERM, then SIGKILL after ``grace`` seconds."""
    try:
        yield
    except BaseException:
        tree: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        deadline = time.monotonic() + grace
        for number in (signal.SIGTERM, signal.SIGKILL):
            for member in tree:
                with suppress(psutil.NoSuchProcess):
                    member.send_signal(number)
            while any(map(_is_alive, tree)) and time.monotonic() < deadline:
                time.sleep(0.1)
        raise


def _is_alive(process: psutil.Process) -> bool:
    """Whether ``process`` is running; a zombie is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def file_lock(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock ``path`` inside. Yields whether it is held: without ``wait``, False if another process holds it.

    The kernel releases the lock of a process that is killed.

    Raises:
        InputError: the file cannot be written.
    """
    lock = FileLock(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout):
            lock.acquire(timeout=-1 if wait else 0)
    try:
        yield lock.is_locked
    finally:
        lock.release()

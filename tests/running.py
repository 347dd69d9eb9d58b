"""Servers that tests start, and end with all that they started; to wait for what a thread or process does."""

import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


def wait_until(condition: Callable[[], object]) -> None:
    """Return as soon as ``condition`` holds; fail where it never does: no machine is so slow."""
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


PORTS = (10_000 + n % 22_000 for n in itertools.count(32 * os.getpid()))
"""Ports below those that the kernel gives to outgoing connections. Processes at work side by side begin at different ones."""


def free_port() -> int:
    """A port of this machine that nothing listens at, another one each time."""
    while True:
        with suppress(OSError), socket.socket() as found:
            found.bind(("127.0.0.1", next(PORTS)))
            return found.getsockname()[1]


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def listening(process: psutil.Process) -> set[str]:
    """Addresses at which ``process`` and its children wait for others."""
    found = set()
    for member in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            found |= {c.laddr.ip for c in member.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    return found


@contextmanager
def running(command: list[str], log: Path, ready: Callable[[], object] = lambda: True, **options) -> Iterator[psutil.Popen]:
    """A server, once it is ``ready``; it is ended as by Ctrl-C, with all that it started."""
    with log.open("ab") as output:
        process = psutil.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True, **options)
    try:
        wait_until(lambda: ready() or process.poll() is not None)
        assert process.poll() is None, log.read_text()[-3000:]
        yield process
    finally:
        members = process.children(recursive=True) if process.is_running() else []
        with suppress(psutil.NoSuchProcess):  # the test has ended it
            process.send_signal(signal.SIGINT)
        for member in psutil.wait_procs([process, *members], timeout=5)[1]:
            member.kill()
        process.communicate()

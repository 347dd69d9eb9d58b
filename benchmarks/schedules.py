"""Many flow runs in a row on one `gee flow serve` and one `prefect server`: what they leave behind, and what grows.

    python -m benchmarks.schedules [--json] [--runs 200] [--change-every 10] [--minutes 60]

In a temporary copy of the project with tiny params. The first run runs all stages. Every --change-every'th of the others has a
new report.title, so that check and report run again; the rest skip every stage. Printed:
    runs, completed     numbers of runs that were triggered, and that ended as COMPLETED
    seconds             median from trigger to end
    left                processes of the project, held locks and unfinished flow runs after everything was stopped
    memory_mb, files    of the serving process and of the server: mean of each quarter of the runs
    bytes_per_run       growth of the project folder per run with and without a change; below it, by folder, over all runs
"""

import argparse
import contextlib
import fcntl
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.arguments import positive, positive_int
from benchmarks.project_copy import change_params, copy_files, leave_git
from pipelines.commands.gc.leftover import tree_size
from pipelines.runtime.process_tree import exit_on_sigterm

TINY: dict[str, dict] = {
    "evolve": {"n_generations": 1, "population_size": 2, "proxy_epochs": 1, "proxy_images": 64},
    "train": {"epochs": 1, "warmup_epochs": 0},
    "robustness": {"strengths": [0.0, 0.5], "n_seeds": 1},
    "export": {"register_model": False},
}
ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
FOLDERS = (".prefect", ".dvc", ".scratch", "mlflow.db", "mlartifacts", "data", "models", "reports")


def make_project(folder: Path) -> dict[str, str]:
    """A copy of the project with `TINY` params; the environment of its processes."""
    copy_files(folder, TINY)
    leave_git(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        "PYTHONPATH": str(folder),
        "PREFECT_HOME": str(folder / ".prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "GEE_COMPILE": "0",
        "GEE_WORKERS": "1",
        "DO_NOT_TRACK": "true",
    }
    return os.environ | own


@contextlib.contextmanager
def started(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[psutil.Process]:
    """The process of ``command`` in its own group, which is ended on exit."""
    log = (folder.parent / f"{command[0]}.log").open("w")
    with (
        log,
        subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        ) as process,
    ):
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(condition: Callable[[], object], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"gave up after {seconds} s")
        time.sleep(0.5)


def api(environment: dict[str, str], path: str, body: dict | None = None) -> Any:
    """The answer of the Prefect server; POST where there is a ``body``."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(environment["PREFECT_API_URL"] + path, data, {"Content-Type": "application/json"})
    for pause in (1, 2, 4, 8, 16, 0):  # as Prefect's client does if SQLite is busy
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503 or not pause:
                raise
            time.sleep(pause)
    raise AssertionError("the last try raises")


def answers(environment: dict[str, str], path: str) -> bool:
    try:
        return bool(api(environment, path))
    except OSError:
        return False


def sizes(folder: Path) -> dict[str, int]:
    return {name: tree_size(folder / name) for name in FOLDERS}


def footprint(process: psutil.Process) -> tuple[float, int]:
    """MB resident, and open files, of a process and its children."""
    tree = [process, *process.children(recursive=True)]
    return sum(p.memory_info().rss for p in tree) / 2**20, sum(p.num_fds() for p in tree)


def at_work(serve: psutil.Process) -> list[psutil.Process]:
    """Processes of a flow run. multiprocessing's resource tracker, which does nothing, stays with the serving process."""
    found = []
    for child in serve.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if not any("resource_tracker" in word for word in child.cmdline()):
                found.append(child)
    return found


def one_run(environment: dict[str, str]) -> tuple[dict, float]:
    """Trigger the deployment and wait for the end of its run; returns its state and the seconds."""
    start = time.perf_counter()
    deployment = api(environment, "/deployments/name/gee/nightly")["id"]
    run = api(environment, f"/deployments/{deployment}/create_flow_run", {"state": {"type": "SCHEDULED"}})["id"]
    while (state := api(environment, f"/flow_runs/{run}")["state"])["type"] not in ENDS:
        time.sleep(0.25)
    return state, time.perf_counter() - start


def all_runs(
    folder: Path, environment: dict[str, str], server: psutil.Process, serve: psutil.Process, arguments: argparse.Namespace
) -> list[dict]:
    """The measurements of each run."""
    rows: list[dict] = []
    end = time.monotonic() + arguments.minutes * 60
    before = sum(sizes(folder).values())
    while len(rows) < arguments.runs and time.monotonic() < end:
        number = len(rows) + 1
        changed = number > 1 and arguments.change_every and number % arguments.change_every == 0
        if changed:
            change_params(folder, {"report": {"title": f"Run {number}"}})
        ended, seconds = one_run(environment)
        state = ended["type"]
        if not rows and state != "COMPLETED":
            raise SystemExit(f"the first run ended as {state}: {ended['message']}")
        wait_for(lambda: not at_work(serve), 60)
        after = sum(sizes(folder).values())
        row = {"state": state, "seconds": seconds, "changed": bool(changed), "grown": after - before}
        row["server"], row["serve"], row["sizes"] = footprint(server), footprint(serve), sizes(folder)
        before = after
        rows.append(row)
        print(f"run {number}: {state} in {seconds:.1f} s, {row['serve'][0]:.0f} + {row['server'][0]:.0f} MB", file=sys.stderr)
    return rows


def left(folder: Path) -> dict[str, int]:
    """Processes and locks of the project that are left after everything was stopped."""
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd().startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE:
                processes.append(process.pid)
    locks = 0
    for path in (folder / ".scratch/flow.lock", folder / ".dvc/tmp/lock"):
        if path.is_file():
            with path.open("r+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    locks += 1
    rwlock = folder / ".dvc/tmp/rwlock"
    if rwlock.is_file():
        locks += len(json.loads(rwlock.read_text() or "{}"))
    return {"processes": len(processes), "locks": locks}


def quarters(rows: list[dict], who: str, which: int) -> list[float]:
    """Mean of each quarter, without the first run."""
    values = [row[who][which] for row in rows[1:]]
    edges = [len(values) * quarter // 4 for quarter in range(5)]
    return [round(statistics.mean(values[a:b]), 1) for a, b in itertools.pairwise(edges) if a < b]


def summarise(rows: list[dict]) -> dict:
    """The measurements as a table."""
    later = rows[1:]
    growth = {
        name: round(statistics.mean(chosen)) if chosen else None
        for name, chosen in [
            ("unchanged", [row["grown"] for row in later if not row["changed"]]),
            ("changed", [row["grown"] for row in later if row["changed"]]),
        ]
    }
    by_folder = {name: round((rows[-1]["sizes"][name] - rows[0]["sizes"][name]) / max(1, len(later))) for name in FOLDERS}
    return {
        "runs": len(rows),
        "completed": sum(row["state"] == "COMPLETED" for row in rows),
        "changed": sum(row["changed"] for row in rows),
        "seconds": round(statistics.median(row["seconds"] for row in rows), 1),
        "memory_mb": {who: quarters(rows, who, 0) for who in ("serve", "server")},
        "files": {who: quarters(rows, who, 1) for who in ("serve", "server")},
        "bytes_per_run": growth,
        "by_folder": by_folder,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=positive_int, default=200)
    parser.add_argument("--change-every", type=int, default=10, help="0: never")
    parser.add_argument("--minutes", type=positive, default=60, help="no new run starts after this time")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    exit_on_sigterm()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "project"
        folder.mkdir()
        environment = make_project(folder)
        port = environment["PREFECT_API_URL"].split(":")[2].split("/")[0]
        with started(["prefect", "server", "start", "--host", "127.0.0.1", "--port", port], folder, environment) as server:
            wait_for(lambda: answers(environment, "/health"))
            with started(["pipelines.cli", "flow", "serve", "--cron", "0 0 1 1 *"], folder, environment) as serve:
                wait_for(lambda: answers(environment, "/deployments/name/gee/nightly"))
                rows = all_runs(folder, environment, server, serve, arguments)
                running = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}}
                unfinished = len(api(environment, "/flow_runs/filter", running))
        results = summarise(rows)
        results["left"] = left(folder) | {"running": unfinished}
    for key, value in results.items():
        print(f"{key:16} {value}")
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()

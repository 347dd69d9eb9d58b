"""What tracking costs an evolution when MLflow's server is away or the drain is killed, and that each candidate arrives once.

    python -m benchmarks.tracking [--json] [--candidates 240] [--seconds 0.5] [--pairs 2] [--many 2000] [--many-seconds 0.06]

A candidate here is a pause of so many seconds, since in evolve other processes do the work. Everything else is real: the
tracker, the drain, a server on 127.0.0.1 with sqlite, `gee track replay`, and the REST search. Evolutions with and without a
disturbance alternate.

Printed:
    away              the server is killed after a third of the candidates and started again after two thirds
    away_to_the_end   the same with the server started again only after the evolution
    drain_killed      the drain is killed (SIGKILL) after a third of the candidates
    two_drains        a second drain is started after a third of the candidates
    many              with the default store (an sqlite file), seconds from the last candidate to the end of the tracker, and
                      seconds that the REST search takes to list all candidates
For the first four: ratio to an undisturbed evolution of the evaluation (from opening the tracker to the last candidate) and of
the wall time (to the tracker's end); entries that were left for `gee track replay`; candidates that the REST search then does
not find, or finds more than once.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from benchmarks.arguments import positive, positive_int
from pipelines.project.params import load_params
from pipelines.tracking.drain import COMMAND, State
from pipelines.tracking.outbox import outbox_root
from pipelines.tracking.tracker import open_tracker

ROOT = Path(__file__).resolve().parents[1]
CANDIDATES = "tags.`gee.level` = 'candidate'"
DISTURBANCES = ("away", "away_to_the_end", "drain_killed", "two_drains")


class Server:
    """`mlflow server` in ``folder``, on its own port."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._process: subprocess.Popen | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self, wait: bool = True) -> None:
        """Start it; ``wait`` until it answers."""
        store = ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db", "--artifacts-destination"]
        place = [f"{self._folder}/mlartifacts", "--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *store, *place],
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_TRACKING_URI": ""},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while wait and time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill it and its workers."""
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, 9)
            self._process.wait()

    def runs(self, query: str = "") -> Counter[str]:
        """How many runs there are of each name, by REST."""
        found: list[dict] = []
        experiments = self._post("experiments/search", {"max_results": 10})["experiments"]
        body: dict[str, object] = {"experiment_ids": [e["experiment_id"] for e in experiments], "filter": query}
        while True:
            page = self._post("runs/search", body | {"max_results": 1000})
            found += page.get("runs", [])
            if not page.get("next_page_token"):
                return Counter(run["info"]["run_name"] for run in found)
            body["page_token"] = page["next_page_token"]

    def _post(self, path: str, body: Mapping[str, object]) -> dict:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.uri}/api/2.0/mlflow/{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@contextlib.contextmanager
def project() -> Iterator[Server]:
    """A project folder without results, the current one, with a server that runs in it."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("params.yaml", "dvc.yaml"):
            (Path(folder) / name).write_bytes((ROOT / name).read_bytes())
        os.chdir(folder)
        server = Server(Path(folder))
        try:
            yield server
        finally:
            server.kill()
            kill_drain()
            os.chdir(here)


def kill_drain() -> None:
    """Kill the drain of the current project, if one is at work."""
    if state := State.read(outbox_root()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(state.process.split("/")[1]), signal.SIGKILL)


def second_drain() -> None:
    """Run another drain in the current project, which ends at once since the first is at work."""
    subprocess.run(COMMAND, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)


def simulate(n: int, seconds: float, uri: str, done: Synchronized, results: Queue) -> None:
    """Track ``n`` candidates, ``seconds`` apart, as the stage evolve does."""
    os.environ.update({"MLFLOW_TRACKING_URI": uri, "GEE_TRACKING": "on"})
    params = load_params()
    start = time.perf_counter()
    track = open_tracker("evolve", params)
    track.params(params.evolve.model_dump())
    for i in range(n):
        time.sleep(seconds)
        sigmas = {f"sigma_{k}": 0.1 + i / (k + 1) for k in range(10)}
        values = {"fitness": 1 / (i + 1), "L_ce": 2.0, "R_T": 0.1, "R_S": 0.2, "seconds": seconds}
        names: dict[str, float] = {"generation": i // 10, "index": i % 10, "wiring_seed": i}
        genotype, ended = {"genotype.json": json.dumps(sigmas)}, time.time()
        track.candidate(names | sigmas, values, f"gen{i // 10}-cand{i % 10}", "ok", genotype, (ended - seconds, ended))
        done.value = i + 1
    last = time.perf_counter()
    track.close()
    results.put((time.perf_counter() - start, time.perf_counter() - last))


def evolution(n: int, seconds: float, uri: str, at: dict[int, Callable[[], None]]) -> tuple[float, float]:
    """Seconds of a simulated evolution in its own process, and of waiting at its end; ``at`` happens meanwhile."""
    spawn = multiprocessing.get_context("spawn")
    done, results = spawn.Value("i", 0), spawn.Queue()
    process = spawn.Process(target=simulate, args=(n, seconds, uri, done, results))
    process.start()
    for place, happen in sorted(at.items()):
        while done.value < place and process.is_alive():
            time.sleep(0.01)
        happen()
    found: tuple[float, float] = results.get(timeout=600)
    process.join()
    return found


def replay(uri: str) -> int:
    """How many entries `gee track replay` writes."""
    command = [sys.executable, "-m", "pipelines.cli", "track", "replay"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": uri}
    output = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout
    return int(re.findall(r"(\d+) entries written", output)[0])


def disturbed(n: int, seconds: float, how: str) -> dict[str, float]:
    """An evolution with a disturbance, or with none; then two replays."""
    with project() as server:
        server.start()
        events: dict[str, dict[int, Callable[[], None]]] = {
            "away": {n // 3: server.kill, 2 * n // 3: lambda: server.start(wait=False)},
            "away_to_the_end": {n // 3: server.kill},
            "drain_killed": {n // 3: kill_drain},
            "two_drains": {n // 3: second_drain},
        }
        wall, end = evolution(n, seconds, server.uri, events.get(how, {}))
        kill_drain()  # it would hold the lock while the replays wait for it
        server.kill()
        server.start()
        left, again = replay(server.uri), replay(server.uri)
        found = server.runs(CANDIDATES)
    missing = {f"gen{i // 10}-cand{i % 10}" for i in range(n)} - set(found)
    doubled = sum(count > 1 for count in found.values())
    return {"wall": wall, "end": end, "left": left, "again": again, "missing": len(missing), "doubled": doubled}


def compare(n: int, seconds: float, pairs: int) -> dict[str, dict[str, object]]:
    """Every disturbance beside undisturbed evolutions, alternating."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ("", *DISTURBANCES)}
    for _ in range(pairs):
        for name in runs:
            runs[name].append(disturbed(n, seconds, name))
    results: dict[str, dict[str, object]] = {}
    for name in DISTURBANCES:
        both = list(zip(runs[name], runs[""], strict=True))
        results[name] = {
            "evaluation": [round((run["wall"] - run["end"]) / (base["wall"] - base["end"]), 4) for run, base in both],
            "median_wall": round(statistics.median(run["wall"] / base["wall"] for run, base in both), 4),
            "seconds_at_the_end": [round(run["end"], 2) for run in runs[name]],
            "left_for_replay": [run["left"] for run in runs[name]],
            "written_by_a_second_replay": sum(run["again"] for run in runs[name]),
            "missing": sum(run["missing"] for run in runs[name]),
            "doubled": sum(run["doubled"] for run in runs[name]),
        }
    results["undisturbed"] = {
        name: [round(run[of], 2) for run in runs[""]] for name, of in (("seconds", "wall"), ("end", "end"))
    }
    return results


def many(n: int, seconds: float) -> dict[str, float]:
    """Drain time with the default store, and the time in which a server on it lists all candidates."""
    with project() as server:
        _, drain = evolution(n, seconds, "", {})
        server.start()
        start = time.perf_counter()
        found = server.runs(CANDIDATES)
        listing = time.perf_counter() - start
    doubled = sum(count > 1 for count in found.values())
    times = {"drain_seconds": round(drain, 2), "listing_seconds": round(listing, 2)}
    return {"candidates": n, "seconds_per_candidate": seconds, **times, "missing": n - len(found), "doubled": doubled}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=positive_int, default=240, help="candidates of a disturbed evolution")
    parser.add_argument("--seconds", type=positive, default=0.5, help="seconds per candidate")
    parser.add_argument("--pairs", type=positive_int, default=2, help="pairs of evolutions to compare")
    parser.add_argument("--many", type=positive_int, default=2000, help="candidates in the default store")
    parser.add_argument("--many-seconds", type=positive, default=0.06, help="seconds per candidate of --many")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    results = {
        "candidates": arguments.candidates,
        "seconds_per_candidate": arguments.seconds,
        **compare(arguments.candidates, arguments.seconds, arguments.pairs),
        "many": many(arguments.many, arguments.many_seconds),
    }
    for key, value in results.items():
        print(f"{key:22} {value}")
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()

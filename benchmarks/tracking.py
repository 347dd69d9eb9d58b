"""What tracking costs an evolution when MLflow's server is away, and how quickly MLflow stores and lists many candidates.

    python -m benchmarks.tracking [--json] [--candidates 240] [--seconds 0.5] [--pairs 2] [--many 2000] [--many-seconds 0.06]

A candidate here is a pause of so many seconds, since in evolve other processes do the work. Everything else is real: the
tracker, a server on 127.0.0.1 with sqlite, `gee track replay`, and the REST search. Evolutions with and without a disturbance
alternate.

Printed:
    middle_third      the server is killed after a third of the candidates and started again after two thirds. Ratio to an
                      undisturbed evolution of the evaluation (from opening the tracker to the last candidate) and of the wall
                      time (to the tracker's end); entries that were left for `gee track replay`; candidates that the REST
                      search then does not find, or finds more than once
    to_the_end        the same with the server started again only after the evolution
    many              with the default store (an sqlite file), seconds from the last candidate to the end of the tracker, and
                      seconds that the REST search takes to list all candidates
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from benchmarks.arguments import positive, positive_int
from pipelines.project.params import load_params
from pipelines.tracking.tracker import open_tracker

ROOT = Path(__file__).resolve().parents[1]


class Server:
    """`mlflow server` in ``folder``, on its own port."""

    def __init__(self, folder: Path, port: int | None = None):
        self._folder = folder
        self._process: subprocess.Popen | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", port or 0))
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

    def candidates(self) -> list[dict]:
        """All runs of candidates, by REST."""
        found: list[dict] = []
        token = None
        while True:
            query = {"experiment_ids": self._experiments(), "filter": "tags.`gee.level` = 'candidate'", "max_results": 1000}
            page = self._post("runs/search", query | ({"page_token": token} if token else {}))
            found += page.get("runs", [])
            token = page.get("next_page_token")
            if not token:
                return found

    def _experiments(self) -> list[str]:
        return [e["experiment_id"] for e in self._post("experiments/search", {"max_results": 10})["experiments"]]

    def _post(self, path: str, body: dict) -> dict:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.uri}/api/2.0/mlflow/{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@contextlib.contextmanager
def project() -> Iterator[Path]:
    """A project folder without results, and the current one."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("params.yaml", "dvc.yaml"):
            (Path(folder) / name).write_bytes((ROOT / name).read_bytes())
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(here)


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
        values = {"fitness": 1 / (i + 1), "L_ce": 2.0, "R_T": 0.1, "R_S": 0.2, "lambda": 0.9, "seconds": seconds}
        names = {"generation": i // 10, "index": i % 10, "wiring_seed": i}
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
    found = results.get(timeout=600)
    process.join()
    return found


def replay(uri: str) -> int:
    """How many entries `gee track replay` writes."""
    command = [sys.executable, "-m", "pipelines.cli", "track", "replay"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": uri}
    output = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout
    return int(re.findall(r"(\d+) entries written", output)[0])


def disturbed(n: int, seconds: float, back: bool) -> dict:
    """An evolution whose server is killed after a third; it comes ``back`` after two thirds, or after its end."""
    with project() as folder:
        server = Server(folder)
        server.start()
        try:
            at = {n // 3: server.kill} | ({2 * n // 3: lambda: server.start(wait=False)} if back else {})
            wall, end = evolution(n, seconds, server.uri, at)
            server.kill()
            server.start()
            left = replay(server.uri)
            again = replay(server.uri)
            found = Counter(run["info"]["run_name"] for run in server.candidates())
        finally:
            server.kill()
    names = {f"gen{i // 10}-cand{i % 10}" for i in range(n)}
    return {
        "wall": wall,
        "end": end,
        "left": left,
        "again": again,
        "missing": len(names - set(found)),
        "doubled": sum(count > 1 for count in found.values()),
    }


def undisturbed(n: int, seconds: float) -> dict:
    """The same with a server that answers all the time."""
    with project() as folder:
        server = Server(folder)
        server.start()
        try:
            wall, end = evolution(n, seconds, server.uri, {})
        finally:
            server.kill()
    return {"wall": wall, "end": end}


def compare(n: int, seconds: float, pairs: int) -> dict:
    """Both kinds of disturbance beside undisturbed evolutions, alternating."""
    runs: dict[str, list[dict]] = {"undisturbed": [], "middle_third": [], "to_the_end": []}
    for _ in range(pairs):
        runs["undisturbed"].append(undisturbed(n, seconds))
        runs["middle_third"].append(disturbed(n, seconds, back=True))
        runs["to_the_end"].append(disturbed(n, seconds, back=False))
    results = {}
    for name in ("middle_third", "to_the_end"):
        pairs_of = list(zip(runs[name], runs["undisturbed"], strict=True))
        wall = [run["wall"] / base["wall"] for run, base in pairs_of]
        evaluation = [(run["wall"] - run["end"]) / (base["wall"] - base["end"]) for run, base in pairs_of]
        results[name] = {
            "evaluation": [round(ratio, 4) for ratio in evaluation],
            "wall": [round(ratio, 4) for ratio in wall],
            "median_wall": round(statistics.median(wall), 4),
            "seconds_at_the_end": [round(run["end"], 2) for run in runs[name]],
            "left_for_replay": [run["left"] for run in runs[name]],
            "written_by_a_second_replay": sum(run["again"] for run in runs[name]),
            "missing": sum(run["missing"] for run in runs[name]),
            "doubled": sum(run["doubled"] for run in runs[name]),
        }
    results["undisturbed"] = {
        "seconds": [round(run["wall"], 2) for run in runs["undisturbed"]],
        "seconds_at_the_end": [round(run["end"], 2) for run in runs["undisturbed"]],
    }
    return results


def many(n: int, seconds: float) -> dict:
    """Drain time with the default store, and the time in which a server on it lists all candidates."""
    with project() as folder:
        _, drain = evolution(n, seconds, "", {})
        server = Server(folder)
        server.start()
        try:
            start = time.perf_counter()
            found = Counter(run["info"]["run_name"] for run in server.candidates())
            listing = time.perf_counter() - start
        finally:
            server.kill()
    return {
        "candidates": n,
        "seconds_per_candidate": seconds,
        "drain_seconds": round(drain, 2),
        "listing_seconds": round(listing, 2),
        "missing": n - len(found),
        "doubled": sum(count > 1 for count in found.values()),
    }


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

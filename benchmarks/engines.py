"""Whether an evolution survives the death of workers: on dask, one of them is killed every few seconds. On digits.

    python -m benchmarks.engines [--json] [--every 20] [--workers 3] [--candidates 120] [--images 1000]

The same evolution runs three times: in this process (`serial`), undisturbed on the workers of a dask scheduler, and there again
while every `--every` seconds a worker, if possible one that is scoring a candidate, gets SIGKILL and is replaced.

Printed:
    candidates, failed          of the disturbed run; a candidate whose worker was killed is scored again elsewhere
    kills, kills_mid_candidate  SIGKILLs sent; those that hit a worker with a candidate
    same_records, same_winner   candidates.csv and genotype.json are byte for byte those of the serial run, undisturbed and
                                disturbed
    seconds                     wall time of each run, with the start of the workers
    disturbed_over_undisturbed  ratio of the wall times on dask: the cost of the kills
"""

import argparse
import json
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.arguments import positive, positive_int
from gee_core.config import Params

# Everything else is imported where it is needed: each new worker imports this file, which must be quick.

CONTENT = tuple[str, str]
"""What evolve writes: candidates.csv and genotype.json."""


class Killer(threading.Thread):
    """Kills a worker of the engine every ``every`` seconds until it is stopped, if possible one that is scoring a candidate."""

    def __init__(self, every: float):
        super().__init__(daemon=True)
        self._every, self._done = every, threading.Event()
        self.engine: Any = None
        self.kills = self.busy = 0

    def run(self) -> None:
        while not self._done.wait(self._every):
            cluster = self.engine and self.engine._cluster
            nannies = [nanny for nanny in cluster.workers.values() if nanny.pid] if cluster else []
            scoring = [nanny for nanny in nannies if self._has_work(cluster, nanny)]
            if nannies:
                os.kill((scoring or nannies)[0].pid, signal.SIGKILL)
                self.kills += 1
                self.busy += bool(scoring)

    def _has_work(self, cluster: Any, nanny: Any) -> bool:
        worker = cluster.scheduler.workers.get(nanny.worker_address)
        return worker is not None and bool(worker.processing)

    def stop(self) -> None:
        self._done.set()
        self.join()


def evolution(params: Params, engine: str, workers: int, killer: Killer | None = None) -> tuple[CONTENT, dict, float]:
    """The files that evolve writes, its metrics, and its seconds."""
    from gee_core.storage.csv_rows import csv_text
    from pipelines.engines.candidates import Workers
    from pipelines.engines.select import choose_engine
    from pipelines.evolve import run, table
    from pipelines.project.paths import PREPARED

    os.environ["GEE_ENGINE"] = engine
    os.environ.pop("GEE_DASK", None)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, choose_engine(workers, 1, [PREPARED], [params.base]) as chosen:
        if killer:
            killer.engine = chosen
        evolved = run(params, PREPARED, Path(scratch), open_scorer=lambda task: Workers(task, chosen))
    seconds = time.perf_counter() - start
    return (csv_text(table(evolved, params)), evolved.genotype.model_dump_json()), evolved.metrics, seconds


def measure(params: Params, workers: int, every: float) -> dict:
    """Everything that is printed."""
    serial, _, serial_seconds = evolution(params, "serial", 1)
    calm, _, calm_seconds = evolution(params, "dask", workers)
    killer = Killer(every)
    killer.start()
    disturbed, metrics, disturbed_seconds = evolution(params, "dask", workers, killer)
    killer.stop()
    return {
        "candidates": metrics["n_candidates"],
        "failed": metrics["n_failed"],
        "kills": killer.kills,
        "kills_mid_candidate": killer.busy,
        "same_records": [run[0] == serial[0] for run in (calm, disturbed)],
        "same_winner": [run[1] == serial[1] for run in (calm, disturbed)],
        "seconds": [round(seconds, 1) for seconds in (serial_seconds, calm_seconds, disturbed_seconds)],
        "disturbed_over_undisturbed": round(disturbed_seconds / calm_seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=positive, default=20, help="seconds between two kills")
    parser.add_argument("--workers", type=positive_int, default=3, help="worker processes")
    parser.add_argument("--candidates", type=positive_int, default=120, help="candidates of the evolution, ten per generation")
    parser.add_argument("--images", type=positive_int, help="images that a candidate trains on [default: all]")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    import torch

    from benchmarks.evolution import prepare
    from gee_core.hardware import cpu_name
    from gee_core.memory import keep_freed_memory

    keep_freed_memory()
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        params = prepare()
        sized = {"population_size": 10, "n_generations": max(1, arguments.candidates // 10), "proxy_images": arguments.images}
        params = params.model_copy(update={"evolve": params.evolve.model_copy(update=sized)})
        results = measure(params, arguments.workers, arguments.every)
        os.chdir(here)
    results = {"torch": torch.__version__, "machine": cpu_name(), **results}
    for key, value in results.items():
        print(f"{key:28} {value}")
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()

"""What limits a search on many workers and a training on many nodes: measured on one machine, computed for more.

    python -m benchmarks.scale_out > docs/results/data/scale_out.csv

Measured, on digits:
    candidate, search    seconds of a candidate, and candidates per second, on 1 and 2 worker processes of dask
    dispatch             seconds per job without work, on 1, 8 and 64 workers that are threads of one process
and in two processes with a thread each, on images of 32 × 32, a batch for each process:
    one, beside, two     seconds of a step of one alone, of each without exchange, and together
    latency, reduce      seconds of the all-reduce of one number, and of all gradients, over the loopback device

Computed:
    search      N workers score N / (candidate + dispatch of one worker) candidates per second, but no more than are dispatched,
                where a dispatch takes linearly longer with N. A generation has N candidates or more. A search does not wait for
                MLflow, which falls behind where candidates end faster than the MLFLOW per second that it writes.
    training    a step of one process, then the exchange without overlap: 2 (N - 1) / N of the gradients' bytes over the link's
                speed, and a latency for each doubling of N, as of LINK. Compared with two processes the link is the loopback
                device, and the step is `beside`.
    shortest    seconds of a candidate or step below which dispatch, MLflow or the network is the limit
"""

import csv
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from distributed import LocalCluster
from torch import nn
from torch.multiprocessing.spawn import start_processes

from benchmarks.project_copy import ROOT, copy_files
from gee_core.compute import Compute, cpu_name
from gee_core.data.augment import Normalise
from gee_core.data.images import PackedImages
from gee_core.evolution.candidate import Candidate, ProxyTask
from gee_core.genome.genotype import configured_genotype
from gee_core.model.network import build_network, count_parameters
from gee_core.rank import Rank
from gee_core.settings import keep_freed_memory
from gee_core.training.loop import EpochRecord, train_epoch
from gee_core.training.optimizers import make_optimizer
from gee_core.training.processes import parallel
from gee_core.training.recipe import Recipe
from pipelines import prepare
from pipelines.engines.candidates import Workers
from pipelines.engines.pools import run_each
from pipelines.engines.select import open_pool
from pipelines.project.params import load_params
from pipelines.project.paths import PREPARED
from pipelines.project.presets import load_preset

WORKERS, NODES, THREADS = (1, 2, 8, 64, 512), (2, 8, 32), (1, 8, 64)
HIDDEN = ("8 workers", "1 process", "2 nodes", "8 nodes")
"""Rows that the page leaves to the file."""
NETWORK = "cifarnet", 10, 3, 32, 50, 0.25
BATCH = 128
CANDIDATES, JOBS, STEPS, ROUNDS = 8, 10, 6, 7
MLFLOW = 17.0
"""Candidates per second that the publisher writes."""
LINK = 1e9 / 8, 50e-6
"""Bytes per second and seconds of latency of the link between nodes: 1 Gbit/s and 50 µs."""


@contextmanager
def dask(n: int, processes: bool) -> Iterator[None]:
    """Context in which the engine is dask with ``n`` workers on this machine."""
    options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None, "protocol": "tcp"}
    with LocalCluster(n_workers=n, processes=processes, **options) as cluster:
        os.environ |= {"GEE_ENGINE": "dask", "GEE_DASK": cluster.scheduler_address}
        yield


def dispatch(task: ProxyTask, n: int) -> float:
    """Seconds between the ends of two jobs without work, where ``n`` workers have ``JOBS`` each."""
    with dask(n, processes=False), open_pool(None, 1, [task.prepared], [task.base]) as pool:
        list(run_each(pool, abs, range(2 * n)))  # the workers are checked
        start = time.perf_counter()
        list(run_each(pool, abs, range(JOBS * n)))
        return (time.perf_counter() - start) / (JOBS * n)


def search(task: ProxyTask, n: int) -> tuple[float, float]:
    """Candidates per second of ``n`` worker processes, and seconds of a candidate."""
    candidates = [Candidate(0, index, 1, configured_genotype(task.network)) for index in range(CANDIDATES)]
    with dask(n, processes=True), Workers(task) as workers:
        list(workers.score_all([Candidate(1, index, 1, candidates[0].genotype) for index in range(n)]))
        start = time.perf_counter()
        seconds = [seconds for _, _, seconds in workers.score_all(candidates)]
        return CANDIDATES / (time.perf_counter() - start), statistics.fmean(seconds)


def measure_search() -> dict[str, Any]:
    """What was measured of a search, in a copy of the project."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy_files(Path(folder), {"base": {"device": "cpu"}})
        with chdir(folder):
            params = load_params()
            prepare.run(params.prepare, PREPARED)
            task = ProxyTask(PREPARED.absolute(), params.base, params.network, params.evolve)
            return {"search": {n: search(task, n) for n in (1, 2)}, "dispatch": {n: dispatch(task, n) for n in THREADS}}


def measure_medians(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of calls that both processes make, of interleaved rounds after a warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for name, call in (rounds + 1) * list(calls.items()):
        dist.barrier()
        start = time.perf_counter()
        call()
        taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def train(net: nn.Module, images: PackedImages, batch: int, compute: Compute) -> EpochRecord:
    """Train for an epoch."""
    cfg = load_preset("digits").params.train.model_copy(update={"batch_size": batch, "epochs": 1})
    recipe = Recipe(cfg=cfg, warmup_steps=0, seed=0, compute=compute, normalise=Normalise((0.5,) * 3, (0.25,) * 3))
    return train_epoch(net, make_optimizer("adamw", net, 0.01), images, recipe, 0)


def train_process(number: int, folder: str) -> None:
    """One of two processes that train; the first writes what was measured."""
    torch.set_num_threads(1)
    keep_freed_memory()
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    alone, n = Compute.of("cpu"), 2 * BATCH * STEPS
    images = PackedImages(torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8), torch.arange(n) % 10)
    half = images.subset(torch.arange(BATCH * STEPS))
    both, single = replace(alone, rank=Rank(number, 2)), build_network(*NETWORK)
    shared, gradients, tiny = parallel(build_network(*NETWORK), both), torch.zeros(count_parameters(single)), torch.zeros(1)
    epochs: dict[str, Callable[[], object]] = {
        "one": lambda: number or train(single, half, BATCH, alone),
        "beside": lambda: train(single, half, BATCH, alone),
        "two": lambda: train(shared, images, 2 * BATCH, both),
    }
    found = {name: value / STEPS for name, value in measure_medians(epochs, ROUNDS).items()}
    found |= measure_medians({"latency": lambda: dist.all_reduce(tiny), "reduce": lambda: dist.all_reduce(gradients)}, 100)
    if number == 0:
        Path(folder, "found.json").write_text(json.dumps(found | {"bytes": 4 * len(gradients)}))
    dist.barrier()
    dist.destroy_process_group()


def compute_search(found: dict[str, Any], n: int) -> dict[str, Any]:
    """The candidates per second of ``n`` workers."""
    few, many = THREADS[1:]
    slope = (found["dispatch"][many] - found["dispatch"][few]) / (many - few)
    each = found["dispatch"][few] + slope * max(0, n - few)
    measured, candidate = found["search"].get(n, (None, found["search"][1][1]))
    rate = min(n / (candidate + found["dispatch"][1]), 1 / each)
    on, shortest = f"{n} worker{'s' * (n > 1)}", {"dispatch": n * each, "MLflow": n / MLFLOW}
    return {"work": "candidates/s", "on": on, "measured": measured, "computed": rate, "shortest": shortest}


def compute_training(found: dict[str, Any], n: int, link: tuple[float, float] | None) -> dict[str, Any]:
    """The images per second of ``n`` nodes on a ``link`` (bytes/s, seconds), or of ``n`` processes of this machine."""
    speed, latency = link or (found["bytes"] / (found["reduce"] - found["latency"]), 0.0)
    exchange = 2 * (n - 1) / n * found["bytes"] / speed + math.log2(n) * (found["latency"] + latency)
    rate = BATCH * n / (found["one" if link or n == 1 else "beside"] + exchange)
    measured = None if link else BATCH * n / found["one" if n == 1 else "two"]
    on = f"{n} nodes" if link else f"{n} process{'es' * (n > 1)}"
    return {"work": "images/s", "on": on, "measured": measured, "computed": rate, "shortest": {"network": exchange}}


def write_rows(rows: list[dict[str, Any]]) -> None:
    """Print the rows of a table of docs/results."""
    commit = subprocess.check_output(["git", "rev-parse", "--short=8", "HEAD"], cwd=ROOT, text=True).strip()
    own = {"n": 1, "commit": commit, "cpu": cpu_name(), "command": "python -m benchmarks.scale_out"}
    names = ("work", "on", "limit", "column", "seed", "value", "spread", "n", "shown", "commit", "cpu", "command")
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        limit = max(row["shortest"], key=row["shortest"].get)
        about = own | {"work": row["work"], "on": row["on"], "limit": limit, "shown": "no" if row["on"] in HIDDEN else ""}
        values = {"measured": row["measured"], "computed": row["computed"], "limits below, s": row["shortest"][limit]}
        if row["measured"]:
            values["error, %"] = 100 * (row["computed"] / row["measured"] - 1)
        for column, value in values.items():
            if value is not None:
                writer.writerow(about | {"column": column, "value": f"{float(f'{value:.2g}'):g}"})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        start_processes(train_process, (folder,), nprocs=2, start_method="spawn")
        trained = json.loads(Path(folder, "found.json").read_text())
    searched = measure_search()
    rows = [compute_search(searched, n) for n in WORKERS]
    rows += [compute_training(trained, n, each) for n, each in [(1, None), (2, None), *((n, LINK) for n in NODES)]]
    write_rows(rows)


if __name__ == "__main__":
    main()

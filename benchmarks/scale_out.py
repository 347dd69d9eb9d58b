"""What limits a search on many workers and a training on many nodes: measured on one machine, computed for more.

    python -m benchmarks.scale_out [--json] [--candidates 8] [--tracked 100] [--jobs 10] [--steps 6] [--rounds 7]
        [--gbit 1] [--microseconds 50]

Measured, on digits:
    search      seconds of a candidate, and candidates per second, on 1 and 2 worker processes of dask with a thread each
    dispatch    seconds per job without work, on 1, 8 and 64 workers that are threads of one process
    tracking    candidates, and rows of MLflow's tables, per second that the publisher writes to mlflow.db
and in two processes with a thread each, on images of 32 × 32, a batch for each process:
    one, beside, two, two_synced    seconds of a step of one alone, of each without exchange, together, and with synchronised
                                    batch norm
    latency, reduce                 seconds of the all-reduce of one number, and of all gradients, over the loopback device

Computed:
    search      N workers score N / (candidate + dispatch of one worker) candidates per second, but no more than are dispatched,
                where a dispatch takes linearly longer with N. A generation has N candidates or more. A search does not wait for
                MLflow, which falls behind where candidates end faster than it can write.
    training    a step of one process, then the exchange without overlap: 2 (N - 1) / N of the gradients' bytes over the link's
                speed, and a latency for each doubling of N. Synchronised batch norm adds two latencies per layer. The link has
                --gbit and --microseconds. Compared with two processes it is the loopback device, and the step is `beside`.
    shortest    seconds of a candidate or step below which dispatch, MLflow or the network is the limit

Without --json it prints docs/results/data/scale_out.csv.
"""

import argparse
import contextlib
import csv
import functools
import json
import math
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from distributed import LocalCluster
from torch.multiprocessing.spawn import start_processes

from benchmarks.arguments import positive, positive_int
from benchmarks.project_copy import ROOT, copy_files
from benchmarks.train_processes import epoch
from gee_core.data.images import PackedImages
from gee_core.evolution.candidate import Candidate, Record
from gee_core.evolution.proxy_task import ProxyTask
from gee_core.genome.genotype import configured_genotype
from gee_core.hardware import Compute, cpu_name
from gee_core.memory import keep_freed_memory
from gee_core.model.network import build_network, count_parameters
from gee_core.rank import Rank
from gee_core.snn.synced_norm import SyncedBatchNorm2d
from gee_core.training.processes import parallel
from pipelines import prepare
from pipelines.candidate_rows import candidate_row
from pipelines.engines.candidates import Workers
from pipelines.engines.engine import Tell, ignore
from pipelines.engines.select import choose_engine
from pipelines.evolve import genotype_file
from pipelines.project.params import load_params
from pipelines.project.paths import PREPARED
from pipelines.runtime.run_folder import is_waiting, runs_root
from pipelines.tracking.tracker import open_stage

WORKERS, NODES, THREADS = (1, 2, 8, 64, 512), (2, 8, 32), (1, 8, 64)
HIDDEN, SYNCED = ("8 workers", "1 process", "2 nodes", "8 nodes"), ", synchronised batch norm"
"""Rows that the page leaves to the file, and what the work of such rows ends with."""
TABLES = ("runs", "metrics", "latest_metrics", "params", "tags")
NETWORK = "cifarnet", 10, 3, 32, 50, 0.25
BATCH = 128


def nothing(task: ProxyTask, job: int, tell: Tell) -> int:
    """A job without work, with the arguments of a candidate's."""
    return job


@contextlib.contextmanager
def dask(n: int, processes: bool) -> Iterator[None]:
    """Context in which the engine is dask with ``n`` workers on this machine."""
    with LocalCluster(
        n_workers=n, threads_per_worker=1, processes=processes, memory_limit=0, dashboard_address=None, protocol="tcp"
    ) as cluster:
        os.environ |= {"GEE_ENGINE": "dask", "GEE_DASK": cluster.scheduler_address}
        yield


def dispatch(task: ProxyTask, n: int, jobs: int) -> float:
    """Seconds between the ends of two jobs without work, where ``n`` workers have ``jobs`` each."""
    with dask(n, processes=False):
        engine = choose_engine(None, 1, [task.prepared], [task.base])
        try:
            list(engine.each(functools.partial(nothing, task), range(2 * n), ignore))  # the workers are checked
            start = time.perf_counter()
            list(engine.each(functools.partial(nothing, task), range(jobs * n), ignore))
            return (time.perf_counter() - start) / (jobs * n)
        finally:
            engine.stop()


def search(task: ProxyTask, n: int, count: int) -> tuple[float, list[Record]]:
    """Candidates per second of ``n`` worker processes, and the records."""
    candidates = [Candidate(0, index, 1, configured_genotype(task.network)) for index in range(count)]
    with dask(n, processes=True), Workers(task) as workers:
        list(workers.score_all([Candidate(1, index, 1, candidates[0].genotype) for index in range(n)]))
        start = time.perf_counter()
        scored = list(workers.score_all(candidates))
        rate = count / (time.perf_counter() - start)
    return rate, [Record(candidate, score, 1.0, 1.0, seconds) for candidate, score, seconds in scored]


def tracking(record: Record, count: int) -> dict[str, float]:
    """How fast the publisher writes ``count`` candidates to the project's mlflow.db."""
    params = load_params()
    for n in (1, count):  # the first starts the publisher
        tracked, before = open_stage("evolve", params), rows()
        with tracked.run.at_work_in(runs_root() / f"evolve-{n}"):
            start = time.perf_counter()
            for index in range(n):
                scored = replace(record, candidate=replace(record.candidate, index=index))
                tracked.run.child(candidate_row(scored, genotype_file(params, scored), params, time.time()))
        tracked.close("FINISHED")
        while is_waiting(tracked.run.path, tracked.run.record):
            time.sleep(0.01)
        seconds = time.perf_counter() - start
    return {"candidates_per_s": count / seconds, "rows_per_s": (rows() - before) / seconds}


def rows() -> int:
    """Rows of mlflow.db, in which MLflow may be writing."""
    if not Path("mlflow.db").exists():
        return 0
    with contextlib.closing(sqlite3.connect("mlflow.db", timeout=60)) as database:
        return sum(database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in TABLES)


def of_search(arguments: Namespace) -> dict[str, Any]:
    """What was measured of a search, in a copy of the project."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy_files(Path(folder), {"base": {"device": "cpu"}})
        os.chdir(folder)
        try:
            params = load_params()
            prepare.run(params.prepare, PREPARED)
            task = ProxyTask(PREPARED.absolute(), params.base, params.network, params.evolve)
            found: dict[str, Any] = {"dispatch": {n: dispatch(task, n, arguments.jobs) for n in THREADS}}
            searched = {n: search(task, n, arguments.candidates) for n in (1, 2)}
            found["search"] = {n: rate for n, (rate, _) in searched.items()}
            found["candidate"] = {n: statistics.fmean(r.seconds for r in records) for n, (_, records) in searched.items()}
            return found | {"tracking": tracking(searched[1][1][0], arguments.tracked)}
        finally:
            os.chdir(here)


def medians(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of calls that both processes make, of interleaved rounds after a warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            dist.barrier()
            start = time.perf_counter()
            call()
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def process(number: int, arguments: Namespace, folder: str) -> None:
    """One of two processes that train; the first writes what was measured."""
    torch.set_num_threads(1)
    keep_freed_memory()
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    alone = Compute.of("cpu")
    n = 2 * BATCH * arguments.steps
    images = PackedImages(torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8), torch.arange(n) % 10)
    half = images.subset(torch.arange(BATCH * arguments.steps))
    single, *nets = (build_network(*NETWORK) for _ in range(3))
    both = replace(alone, rank=Rank(number, 2))
    plain, synced = (parallel(net, both, sync) for net, sync in zip(nets, (False, True), strict=True))
    one, two = Namespace(batch=BATCH, steps=arguments.steps), Namespace(batch=2 * BATCH, steps=arguments.steps)
    gradients, tiny = torch.zeros(count_parameters(single)), torch.zeros(1)
    steps: dict[str, Callable[[], object]] = {
        "one": lambda: number or epoch(single, half, alone, one),
        "beside": lambda: epoch(single, half, alone, one),
        "two": lambda: epoch(plain, images, both, two),
        "two_synced": lambda: epoch(synced, images, both, two),
    }
    found: dict[str, float] = {name: value / arguments.steps for name, value in medians(steps, arguments.rounds).items()}
    found |= medians({"latency": lambda: dist.all_reduce(tiny), "reduce": lambda: dist.all_reduce(gradients)}, 100)
    found["bytes"] = 4 * len(gradients)
    found["batch_norms"] = sum(isinstance(module, SyncedBatchNorm2d) for module in synced.modules())
    if number == 0:
        Path(folder, "found.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def of_training(arguments: Namespace) -> dict[str, Any]:
    """What was measured of a training."""
    with tempfile.TemporaryDirectory() as folder:
        start_processes(process, (arguments, folder), nprocs=2, start_method="spawn")
        found: dict[str, Any] = json.loads(Path(folder, "found.json").read_text())
        return found


def compute_search(found: dict[str, Any], n: int) -> dict[str, Any]:
    """The candidates per second of ``n`` workers."""
    few, many = THREADS[1:]
    slope = (found["dispatch"][many] - found["dispatch"][few]) / (many - few)
    each = found["dispatch"][few] + slope * max(0, n - few)
    rate = min(n / (found["candidate"].get(n, found["candidate"][1]) + found["dispatch"][1]), 1 / each)
    shortest = {"dispatch": n * each, "MLflow": n / found["tracking"]["candidates_per_s"]}
    on, measured = f"{n} worker{'s' * (n > 1)}", found["search"].get(n)
    return {"work": "candidates/s", "on": on, "measured": measured, "computed": rate, "shortest": shortest}


def compute_training(found: dict[str, Any], n: int, synced: bool, link: tuple[float, float] | None) -> dict[str, Any]:
    """The images per second of ``n`` nodes on a ``link`` (bytes/s, seconds), or of ``n`` processes of this machine."""
    speed, latency = link or (found["bytes"] / (found["reduce"] - found["latency"]), 0.0)
    each = math.log2(n) * (found["latency"] + latency)
    exchange = 2 * (n - 1) / n * found["bytes"] / speed + each * (1 + 2 * synced * found["batch_norms"])
    measured = None if link else BATCH * n / found["one" if n == 1 else "two_synced" if synced else "two"]
    rate = BATCH * n / (found["one" if link or n == 1 else "beside"] + exchange)
    on = f"{n} nodes" if link else f"{n} process{'es' * (n > 1)}"
    work = f"images/s{SYNCED * synced}"
    return {"work": work, "on": on, "measured": measured, "computed": rate, "shortest": {"network": exchange}}


def write_rows(rows: list[dict[str, Any]]) -> None:
    """Print the rows of a table of docs/results."""
    commit = subprocess.check_output(["git", "rev-parse", "--short=8", "HEAD"], cwd=ROOT, text=True).strip()
    own = {"n": 1, "commit": commit, "cpu": cpu_name(), "command": "python -m benchmarks.scale_out"}
    names = ("work", "on", "limit", "column", "seed", "value", "spread", "n", "shown", "commit", "cpu", "command")
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        shown = "no" if row["on"] in HIDDEN or SYNCED in row["work"] else ""
        about = own | {"work": row["work"], "on": row["on"], "limit": row["limit"], "shown": shown}
        values = {
            "measured": row["measured"],
            "computed": row["computed"],
            "error, %": row["error"] and 100 * row["error"],
            "limits below, s": row["shortest"][row["limit"]],
        }
        for column, value in values.items():
            if value is not None:
                writer.writerow(about | {"column": column, "value": f"{float(f'{value:.2g}'):g}"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"candidates": 8, "tracked": 100, "jobs": 10, "steps": 6, "rounds": 7}.items():
        parser.add_argument(f"--{name}", type=positive_int, default=default)
    parser.add_argument("--gbit", type=positive, default=1.0, help="speed of the link between nodes, in Gbit/s")
    parser.add_argument("--microseconds", type=positive, default=50.0, help="its latency")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns of parameters without a use in each step
    trained, searched = of_training(arguments), of_search(arguments)
    link = arguments.gbit * 1e9 / 8, arguments.microseconds * 1e-6
    training = [
        (n, synced, each) for synced in (False, True) for n, each in [(1, None), (2, None), *((n, link) for n in NODES)]
    ]
    rows = [compute_search(searched, n) for n in WORKERS] + [compute_training(trained, *case) for case in training]
    for row in rows:
        row["limit"] = max(row["shortest"], key=row["shortest"].get)
        row["error"] = row["measured"] and row["computed"] / row["measured"] - 1
    if arguments.json:
        machine = {"cpu": cpu_name(), "torch": torch.__version__}
        measured = {"search": searched, "training": trained}
        print(json.dumps({"measured": measured, "rows": rows, "settings": vars(arguments), "machine": machine}))
    else:
        write_rows(rows)


if __name__ == "__main__":
    main()

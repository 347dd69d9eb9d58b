"""What an evolution spends besides training candidates, and what a second worker gains. On digits, tracked by MLflow.

    python -m benchmarks.evolution [--json] [--candidates 200] [--compare 40]

Printed:
    waiting             share of the workers' time, from the first candidate to the last, in which they wait for the slowest
                        candidate of a generation: CMA-ES needs all of them before it draws the next generation
    orchestration       share in which they are idle for other reasons: sampling, passing candidates on, tracking
    start_up            share of the wall time before the first candidate: starting worker processes and loading torch
    workers_2_over_1    speed of two workers over that of one with the same candidates, without the start-up
    second_candidate    graphs compiled for a second candidate of a network that is large enough to be compiled, and the
                        seconds that compiling took for the first and for the second
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch._dynamo.utils as dynamo

from benchmarks.arguments import positive_int
from gee_core.config import Params
from gee_core.evolution.candidate import Candidate, Record
from gee_core.evolution.proxy import score
from gee_core.evolution.proxy_task import ProxyTask
from gee_core.genome.genotype import configured_genotype
from gee_core.hardware import cpu_name
from gee_core.memory import keep_freed_memory
from pipelines.evolve import genotype_file, run
from pipelines.project.params import load_params
from pipelines.tracking.evolution import track_candidate
from pipelines.tracking.tracker import open_tracker

ROOT = Path(__file__).resolve().parents[1]
PREPARED = Path("data/prepared")


def prepare() -> Params:
    """Digits, as params.yaml prepares them, in the current folder."""
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GEE_TRACKING": "off"}
    subprocess.run([sys.executable, "-m", "pipelines.prepare"], check=True, env=environment)
    return load_params()


def evolution(params: Params, n_candidates: int, workers: int) -> dict[str, float]:
    """Seconds in total, of the start-up and of scoring; shares of the scoring in which workers wait, or are idle at all."""
    os.environ["GEE_WORKERS"] = str(workers)
    population = 10
    evolve = params.evolve.model_copy(
        update={"population_size": population, "n_generations": max(1, n_candidates // population)}
    )
    params = params.model_copy(update={"evolve": evolve})
    track = open_tracker("evolve", params)
    starts: list[float] = []
    ends: dict[int, list[float]] = {}
    busy = 0.0

    def on_record(record: Record) -> None:
        nonlocal busy
        starts.append(time.perf_counter() - record.seconds)
        ends.setdefault(record.candidate.generation, []).append(time.perf_counter())
        busy += record.seconds
        track_candidate(track, record, genotype_file(params, record), time.time())

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        records = run(params, PREPARED, Path(scratch), on_record).records
        track.close("FINISHED")
    end = time.perf_counter()
    scoring = end - min(starts)
    waiting = sum(last[-1] - earlier for last in ends.values() for earlier in last[-workers:])
    return {
        "n": len(records),
        "wall": end - start,
        "start_up": min(starts) - start,
        "scoring": scoring,
        "waiting": waiting / (workers * scoring),
        "idle": 1 - busy / (workers * scoring),
    }


def second_candidate(params: Params) -> dict[str, float]:
    """Compiled graphs and seconds of compiling, for two candidates in one process whose layers are worth compiling."""
    network = params.network.model_copy(update={"name": "resnet18", "width": 0.5, "n_genes": 16})
    evolve = params.evolve.model_copy(update={"batch_size": 256, "proxy_epochs": 1, "proxy_images": 512})
    params = params.model_copy(update={"network": network, "evolve": evolve})
    task = ProxyTask(PREPARED, params.base, network, evolve)
    genotype = configured_genotype(params.network)
    counts = []
    for seed in (1, 2):
        graphs, seconds = dynamo.counters["stats"]["unique_graphs"], _compile_seconds()
        result = score(task, Candidate(0, seed, seed, genotype))
        if result.status != "ok":
            raise SystemExit(f"candidate {seed}: {result.status}")
        counts.append((dynamo.counters["stats"]["unique_graphs"] - graphs, round(_compile_seconds() - seconds, 2)))
    (first, first_seconds), (second, second_seconds) = counts
    return {"graphs_first": first, "graphs_second": second, "seconds_first": first_seconds, "seconds_second": second_seconds}


def _compile_seconds() -> float:
    return sum(dynamo.compilation_time_metrics.get("_compile.compile_inner", []))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=positive_int, default=200, help="of the evolution whose overhead is measured")
    parser.add_argument("--compare", type=positive_int, default=40, help="of the evolutions with one and with two workers")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    keep_freed_memory()
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        params = prepare()
        one, two = (evolution(params, arguments.compare, workers) for workers in (1, 2))
        many = evolution(params, arguments.candidates, 2)
        second = second_candidate(params)
        os.chdir(here)
    results = {
        "torch": torch.__version__,
        "machine": cpu_name(),
        "candidates": many["n"],
        "waiting": round(many["waiting"], 4),
        "orchestration": round(many["idle"] - many["waiting"], 4),
        "start_up": round(many["start_up"] / many["wall"], 4),
        "workers_2_over_1": round(one["scoring"] / two["scoring"], 2),
        "second_candidate": second,
    }
    for key, value in results.items():
        print(f"{key:20} {value}")
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()

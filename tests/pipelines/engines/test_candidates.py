"""Candidates on a pool whose workers die or find no memory, and the same records on every pool."""

import multiprocessing
import subprocess
import sys
from concurrent.futures import BrokenExecutor, Future
from dataclasses import replace

import pytest

from gee_core.config.evolve import Rescore
from gee_core.evolution import proxy
from gee_core.evolution.candidate import Candidate, Failure, ProxyTask, Score, failed
from gee_core.genome.genotype import Genotype
from gee_core.storage.csv_rows import csv_text
from pipelines import evolve
from pipelines.engines.candidates import Workers, score_here
from pipelines.engines.pools import Pool, leave_if_lost_gpu
from tests.project_copy import ROOT


@pytest.fixture
def task(make_params, digits):
    params = make_params()
    return ProxyTask(digits, params.base, params.network, params.evolve)


def candidates(n):
    return [Candidate(0, index, index, Genotype(0.3, (0.4,) * 8)) for index in range(n)]


def found(index):
    return Score(float(index), 0.0, 0.0, 0.0, 0.0, 0.0)


NO_MEMORY = failed("OutOfMemoryError: CUDA out of memory", Failure.GPU_MEMORY, 7)


class Scripted(Pool):
    """Two workers that give ``results`` in turn, each by the index of its candidate; notes what it is asked for."""

    def __init__(self, **results):
        self.results, self.calls = {int(index[1:]): list(given) for index, given in results.items()}, []

    def room(self):
        return 2

    def end_idle(self):
        self.calls.append("end idle")

    def submit(self, function, /, candidate):
        self.calls.append(candidate.index)
        future, given = Future(), self.results.get(candidate.index, [])
        result = given.pop(0) if given else found(candidate.index)
        future.set_exception(result) if isinstance(result, Exception) else future.set_result((result, 1.0))
        return future


def scored(task, pool, n):
    with Workers(task, pool) as opened:
        return {candidate.index: score for candidate, score, _ in opened.score_all(candidates(n))}


def test_scoring_here_gives_the_scores_in_order(task):
    wanted = [replace(candidate, seed=7 + candidate.index) for candidate in candidates(2)]
    with score_here(task) as serial:
        results = list(serial.score_all(wanted))
    assert [(candidate, result) for candidate, result, _ in results] == [(c, proxy.score(task, c)) for c in wanted]
    assert all(seconds > 0 for _, _, seconds in results)


def test_a_candidate_that_always_kills_its_worker_fails_alone(task):
    died = [BrokenExecutor("died")]
    results = scored(task, Scripted(_1=died, _2=2 * died), 4)
    lost = failed("its worker process died every time (out of memory?)", Failure.MEMORY)
    assert repr(results.pop(2)) == repr(lost)  # NaN equals nothing
    assert results == {index: found(index) for index in (0, 1, 3)}


@pytest.mark.parametrize("times", [1, 2])
def test_a_candidate_that_found_no_memory_is_scored_again_alone_at_the_end(times, task):
    pool = Scripted(_1=times * [NO_MEMORY])
    results = scored(task, pool, 4)
    assert list(results) == [0, 2, 3, 1] and sorted(pool.calls[:4]) == [0, 1, 2, 3]
    assert pool.calls[4:] == ["end idle", 1]
    assert results[1] == (found(1) if times == 1 else NO_MEMORY)


def lose_gpu_once(mark):
    if not mark.exists():
        mark.touch()
        leave_if_lost_gpu(RuntimeError("CUDA error: an illegal memory access was encountered"), "candidate 0-1")
    return multiprocessing.parent_process() is not None


LOSES_ITS_GPU = """
import sys
from pathlib import Path
from pipelines.engines.pools import Processes, run_each
from tests.pipelines.engines.test_candidates import lose_gpu_once

mark = Path(sys.argv[1])
with Processes(1) as pool:
    assert dict(run_each(pool, lose_gpu_once, [mark])) == {mark: True}
"""


@pytest.mark.slow
def test_a_job_whose_process_lost_its_gpu_runs_again_in_another(tmp_path):
    command = [sys.executable, "-c", LOSES_ITS_GPU, str(tmp_path / "mark")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "gee: candidate 0-1 runs again in a new process: CUDA error: an illegal memory access" in done.stderr


def test_a_gpu_that_is_lost_in_the_stages_own_process_ends_the_stage(task, monkeypatch):
    def lose_gpu(task, candidate):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(proxy, "score", lose_gpu)
    with pytest.raises(RuntimeError, match="illegal memory access"), score_here(task) as serial:
        list(serial.score_all(candidates(3)))


@pytest.mark.slow
def test_records_and_winner_are_the_same_bytes_with_any_workers(make_params, digits, tmp_path, monkeypatch):
    from tests.pipelines.engines.test_dask import cluster_of

    searched = {"variant": "baseline", "genes": ["structure", "neurons"], "budget": {"parameters": 20_000, "energy": 0.8}}
    searched |= {"population_size": 4, "rescore": Rescore(top=2, draws=2)}
    params, results = make_params(network={"neuron": "ilif", "levels": 4}, evolve=searched), {}
    cluster = cluster_of(2, processes=True)
    for engine, n_workers in (("serial", "1"), ("processes", "2"), ("dask", "2"), ("dask", "1")):
        if engine == "dask":
            monkeypatch.setenv("GEE_DASK", cluster.scheduler_address)
        monkeypatch.setenv("GEE_ENGINE", engine)
        monkeypatch.setenv("GEE_WORKERS", n_workers)
        (tmp_path / f"{engine}{n_workers}").mkdir()
        evolved = evolve.run(params, digits, tmp_path / f"{engine}{n_workers}")
        genotype = evolved.genotype.model_dump_json(indent=2)
        rows = evolve.table(evolved.records, evolved.best, params)
        results[engine, n_workers] = (csv_text(rows), genotype, evolved.metrics)
    cluster.close()
    counts = results["serial", "1"][2]
    assert (counts["n_candidates"], counts["n_failed"]) == (8, 0) and counts["n_rescored"] >= 4
    assert all(result == results["serial", "1"] for result in results.values())

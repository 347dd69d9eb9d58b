"""Real worker processes around scores that cost nothing; that real scores agree stands in the core's ``test_proxy``."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gee_core.config.evolve import Rescore
from gee_core.evolution.candidate import Candidate, Failure, Score, failed
from gee_core.evolution.proxy import score
from gee_core.evolution.proxy_task import ProxyTask
from gee_core.genome.genotype import Genotype
from gee_core.storage.csv_rows import csv_text
from pipelines import evolve
from pipelines.engines import candidates as workers
from pipelines.engines import processes
from pipelines.engines.candidates import Workers, score_here
from pipelines.engines.engine import Serial


@pytest.fixture
def task(make_params, digits):
    params = make_params()
    return ProxyTask(digits, params.base, params.network, params.evolve)


def candidates(n):
    return [Candidate(0, index, index, Genotype(0.3, (0.4,) * 8)) for index in range(n)]


@pytest.fixture
def score_by(monkeypatch, tmp_path):
    """Replaces the scoring; the processes are forked, so that they know the replacement, and start at once."""

    def replace(function, n_workers=2, mark="once"):
        monkeypatch.setattr(workers, "_timed_score", function)
        monkeypatch.setattr(processes, "CONTEXT", multiprocessing.get_context("fork"))
        monkeypatch.setenv("GEE_WORKERS", str(n_workers))
        monkeypatch.setenv("GEE_TEST_MARK", str(tmp_path / mark))

    return replace


def test_serial_scoring_gives_the_scores_in_order_and_tells_how_much_of_each_training_is_done(task, monkeypatch):
    monkeypatch.setattr(workers, "TELL_SECONDS", 0)
    proxy = task.evolve.proxy.model_copy(update={"epochs": 2})
    task = replace(task, evolve=task.evolve.model_copy(update={"proxy": proxy}))
    wanted = [replace(candidate, seed=7 + candidate.index) for candidate in candidates(2)]
    told = []
    with Workers(task, Serial(), lambda candidate, part: told.append((candidate, part))) as serial:
        scored = list(serial.score_all(wanted))
    assert [(candidate, result) for candidate, result, _ in scored] == [(c, score(task, c)) for c in wanted]
    assert all(seconds > 0 for _, _, seconds in scored)
    parts = [1 / 6, 2 / 6, 4 / 6, 5 / 6]  # three steps in an epoch, the last of which is in its result
    assert told == [(candidate, pytest.approx(part)) for candidate in wanted for part in parts]


def by_seed(task, candidate, tell):
    return Score(candidate.seed, 0.0, 0.0, 0.0, 0.0, 0.0), float(os.getpid())


def dies_always_at_2(task, candidate, tell):
    if candidate.index == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return by_seed(task, candidate, tell)


def loses_its_gpu_once(task, candidate, tell):
    mark = Path(os.environ["GEE_TEST_MARK"])
    if candidate.index == 1 and not mark.exists():
        mark.touch()
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return by_seed(task, candidate, tell)


def has_no_memory_at_2(task, candidate, tell):
    """The first time, or always."""
    mark = Path(os.environ["GEE_TEST_MARK"])
    if candidate.index == 2 and (mark.name == "always" or not mark.exists()):
        mark.write_text((mark.read_text() if mark.exists() else "") + ".")
        return failed("OutOfMemoryError: CUDA out of memory", Failure.GPU_MEMORY, 7), float(os.getpid())
    return by_seed(task, candidate, tell)


def test_a_candidate_whose_worker_lost_its_gpu_is_tried_again(task, score_by, capfd):
    score_by(loses_its_gpu_once)
    with Workers(task) as pool:
        results = {c.index: result for c, result, _ in pool.score_all(candidates(4))}
    assert {index: result.status for index, result in results.items()} == dict.fromkeys(range(4), "ok")
    assert "gee: candidate 0-1 runs again in a new process: CUDA error: an illegal memory access" in capfd.readouterr().err


def test_a_candidate_that_always_kills_its_worker_fails_alone(task, score_by):
    score_by(dies_always_at_2, n_workers=3)
    with Workers(task) as pool:
        assert pool._engine.room() == 3
        results = {c.index: result for c, result, _ in pool.score_all(candidates(6))}
    assert "its worker process died every time" in results[2].status
    assert [index for index, result in sorted(results.items()) if result.status != "ok"] == [2]


@pytest.mark.parametrize("mark", ["once", "always"])
def test_a_candidate_that_found_no_memory_next_to_others_is_scored_again_alone(mark, task, score_by, tmp_path):
    score_by(has_no_memory_at_2, mark=mark)
    with Workers(task) as pool:
        *others, (last, result, pid) = pool.score_all(candidates(5))
    assert (last.index, result.status) == (2, "ok" if mark == "once" else "failed: OutOfMemoryError: CUDA out of memory")
    assert result.image_passes == (0 if mark == "once" else 7)
    assert {c.index: score.status for c, score, _ in others} == dict.fromkeys((0, 1, 3, 4), "ok")
    assert pid not in {seconds for *_, seconds in others}  # a new process: the others were ended
    assert (tmp_path / mark).read_text() == ("." if mark == "once" else "..")


def test_a_gpu_that_is_lost_in_the_stages_own_process_ends_the_stage(task, score_by):
    score_by(loses_its_gpu_once)
    with pytest.raises(RuntimeError, match="illegal memory access"), score_here(task) as serial:
        list(serial.score_all(candidates(3)))


@pytest.mark.slow
def test_records_and_winner_are_the_same_bytes_on_every_engine_with_any_number_of_workers(
    make_params, digits, tmp_path, monkeypatch
):
    from tests.pipelines.engines.test_dask import cluster_of

    searched = {"variant": "baseline", "genes": ["structure", "neurons"], "objectives": ["loss", "energy"]}
    searched |= {"choose": "no_worse", "budget": {"parameters": 20_000}}
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

"""Real worker processes around scores that cost nothing; that real scores agree stands in the core's ``test_proxy``."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gee_core.config.evolve import Rescore
from gee_core.evolution.candidate import Candidate, Score, failed
from gee_core.evolution.proxy import score
from gee_core.evolution.proxy_task import ProxyTask
from gee_core.genome.genotype import Genotype
from gee_core.hardware import Compute
from gee_core.storage.csv_rows import csv_text
from pipelines import evolve
from pipelines.engines import candidates as workers
from pipelines.engines.candidates import GpuSharing, Workers, memory_used, score_here
from pipelines.engines.engine import Serial, ignore
from pipelines.runtime import worker_process


@pytest.fixture
def task(make_params, digits):
    params = make_params()
    return ProxyTask(digits, params.base, params.network, params.evolve)


def candidates(n):
    return [Candidate(0, index, index, Genotype(0.3, (0.4,) * 8)) for index in range(n)]


@pytest.fixture
def score_by(monkeypatch):
    """Replaces the scoring; the processes are forked, so that they know the replacement, and start at once."""

    def replace(function, n_workers=2):
        monkeypatch.setattr(workers, "_timed_score", function)
        monkeypatch.setattr(worker_process, "CONTEXT", multiprocessing.get_context("fork"))
        monkeypatch.setenv("GEE_WORKERS", str(n_workers))

    return replace


def test_serial_scoring_gives_the_same_scores_in_the_order_given(task):
    wanted = [replace(candidate, seed=7 + candidate.index) for candidate in candidates(2)]
    with score_here(task) as serial:
        found = list(serial.score_all(wanted))
    assert [(candidate, result) for candidate, result, _ in found] == [(c, score(task, c)) for c in wanted]
    assert all(seconds > 0 for _, _, seconds in found)


@pytest.mark.parametrize("halving", [None, 2])
def test_a_running_candidate_tells_how_much_of_its_training_is_done(halving, task, monkeypatch):
    monkeypatch.setattr(workers, "TELL_SECONDS", 0)
    task = replace(task, evolve=task.evolve.model_copy(update={"proxy_epochs": 2, "halving": halving}))
    wanted = [replace(candidate, seed=7, epochs=halving and 2) for candidate in candidates(2)]
    told = []
    with Workers(task, Serial(), lambda candidate, part: told.append((candidate, part))) as serial:
        found = [result for _, result, _ in serial.score_all(wanted)]
    assert found == [score(task, candidate) for candidate in wanted]
    parts = [1 / 6, 2 / 6, 4 / 6, 5 / 6]  # three steps in an epoch, the last of which is in its result
    assert told == [(candidate, pytest.approx(part)) for candidate in wanted for part in parts]


def by_seed(task, candidate, tell):
    return Score(candidate.seed, 0.0, 0.0, 0.0, 0.0, 0.0), float(os.getpid())


def in_a_second(task, candidate, tell):
    return replace(by_seed(task, candidate, tell)[0], image_passes=1000), 1.0


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
        return failed("OutOfMemoryError: CUDA out of memory", 7), float(os.getpid())
    return by_seed(task, candidate, tell)


def test_a_candidate_whose_worker_lost_its_gpu_is_tried_again(task, score_by, tmp_path, monkeypatch):
    monkeypatch.setenv("GEE_TEST_MARK", str(tmp_path / "mark"))
    score_by(loses_its_gpu_once)
    with Workers(task) as pool:
        results = {c.index: found for c, found, _ in pool.score_all(candidates(4))}
    assert {index: found.status for index, found in results.items()} == dict.fromkeys(range(4), "ok")


def test_a_candidate_that_always_kills_its_worker_fails_alone(task, score_by):
    score_by(dies_always_at_2, n_workers=3)
    with Workers(task) as pool:
        assert pool._engine.room() == 3
        results = {c.index: found for c, found, _ in pool.score_all(candidates(6))}
    assert "its worker process died every time" in results[2].status
    assert [index for index, found in sorted(results.items()) if found.status != "ok"] == [2]


@pytest.mark.parametrize("mark", ["once", "always"])
def test_a_candidate_that_found_no_memory_beside_others_is_scored_again_alone(mark, task, score_by, tmp_path, monkeypatch):
    monkeypatch.setenv("GEE_TEST_MARK", str(tmp_path / mark))
    score_by(has_no_memory_at_2)
    with Workers(task) as pool:
        *others, (last, found, pid) = pool.score_all(candidates(5))
    assert (last.index, found.status) == (2, "ok" if mark == "once" else "failed: OutOfMemoryError: CUDA out of memory")
    assert found.image_passes == (0 if mark == "once" else 7)
    assert {c.index: score.status for c, score, _ in others} == dict.fromkeys((0, 1, 3, 4), "ok")
    assert pid not in {seconds for *_, seconds in others}  # a new process: the others were ended
    assert (tmp_path / mark).read_text() == ("." if mark == "once" else "..")


def test_a_gpu_that_is_lost_in_the_stages_own_process_ends_the_stage(task, score_by, tmp_path, monkeypatch):
    monkeypatch.setenv("GEE_TEST_MARK", str(tmp_path / "mark"))
    score_by(loses_its_gpu_once)
    with pytest.raises(RuntimeError, match="illegal memory access"), score_here(task) as serial:
        list(serial.score_all(candidates(3)))


def scored(n, speed, status="ok"):
    """``n`` candidates of 1,000 images with ``speed`` images per second each."""
    return [(Score(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, status, 1000), 1000 / speed)] * n


def counts(sharing, *generations):
    """The number of candidates at the same time after each generation (candidates, images/s of each, memory, crowded)."""
    found = []
    for n, speed, used, crowded in generations:
        assert not sharing.settled
        sharing.learn(scored(n, speed), used, crowded)
        found.append(sharing.count)
    return found, sharing.settled


@pytest.mark.parametrize(
    ("generations", "found", "settled"),
    [
        ([(16, 100, 0.1, False), (16, 100, 0.2, False), (16, 90, 0.4, False), (16, 80, 0.44, False)], [2, 4, 8, 12], False),
        ([(16, 100, 0.1, False), (16, 56, 0.2, False)], [2, 4], False),
        ([(16, 100, 0.1, False), (16, 54, 0.2, False)], [2, 1], True),  # not a tenth faster: back
        ([(16, 100, 0.1, False), (16, 90, 0.46, False)], [2, 2], True),  # no memory for twice as many
        ([(16, 100, 0.1, False), (16, 90, 0.2, True)], [2, 1], True),  # one found no memory
        ([(3, 100, 0.1, False), (3, 100, 0.1, False), (3, 100, 0.1, False)], [2, 3, 3], True),  # no candidates for more
    ],
)
def test_it_doubles_while_that_pays_and_fits(generations, found, settled):
    assert counts(GpuSharing(1, most=12), *generations) == (found, settled)


def test_the_median_candidate_counts_so_that_one_that_compiles_or_resumes_does_not():
    sharing = GpuSharing(1, most=8)
    sharing.learn([*scored(1, 1), *scored(5, 100), *scored(1, 10_000), *scored(2, 1, "failed: x")], 0.0, False)
    sharing.learn(scored(8, 56), 0.0, False)
    assert sharing.count == 4


def test_the_memory_in_use_is_that_of_the_device_whoever_uses_it(make_params, monkeypatch):
    base = make_params().base
    assert memory_used(base, ignore) == 0.0
    monkeypatch.setattr(Compute, "of", lambda *names: Compute(torch.device("cuda:1"), torch.float32))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: {"cuda:1": (60, 80)}[str(device)])
    assert memory_used(base, ignore) == 0.25


@pytest.fixture
def gpus_to_share(monkeypatch):
    """As on a machine with one GPU and five cores."""
    monkeypatch.delenv("GEE_WORKERS", raising=False)
    monkeypatch.setattr(workers, "may_share_gpus", lambda base: True)
    monkeypatch.setattr(workers, "default_count", lambda bases: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(5))


def test_the_number_of_workers_on_a_gpu_grows_with_the_generations(gpus_to_share, task, score_by, monkeypatch):
    score_by(in_a_second)
    monkeypatch.delenv("GEE_WORKERS")
    counts = []
    with Workers(task) as pool:
        for _ in range(5):
            counts.append(pool._engine._count)
            assert sorted(c.index for c, _, _ in pool.score_all(candidates(6))) == list(range(6))
    assert counts == [1, 2, 4, 5, 5]


@pytest.mark.parametrize("halving", [1, 2])
def test_later_rungs_of_halving_whose_seconds_are_not_those_of_all_passes_are_not_compared(
    halving, gpus_to_share, task, score_by, monkeypatch
):
    score_by(in_a_second)
    monkeypatch.delenv("GEE_WORKERS")
    with Workers(task) as pool:
        list(pool.score_all([replace(candidate, epochs=halving) for candidate in candidates(4)]))
        assert pool._engine._count == (2 if halving == 1 else 1)


@pytest.mark.slow
def test_records_and_winner_are_the_same_bytes_on_every_engine_with_any_number_of_workers(
    make_params, digits, tmp_path, monkeypatch
):
    params, found = make_params(evolve={"population_size": 4, "rescore": Rescore(top=2, draws=2)}), {}
    for engine, n_workers in (("serial", "1"), ("processes", "2"), ("dask", "2"), ("dask", "1")):
        monkeypatch.setenv("GEE_ENGINE", engine)
        monkeypatch.setenv("GEE_WORKERS", n_workers)
        (tmp_path / f"{engine}{n_workers}").mkdir()
        evolved = evolve.run(params, digits, tmp_path / f"{engine}{n_workers}")
        genotype = evolved.genotype.model_dump_json(indent=2)
        found[engine, n_workers] = (csv_text(evolve.table(evolved, params)), genotype, evolved.metrics)
    assert found["serial", "1"][2]["n_candidates"] == 8
    assert found["serial", "1"][2]["n_rescored"] == 8
    assert found["serial", "1"][2]["n_failed"] == 0
    assert all(result == found["serial", "1"] for result in found.values())

"""What processes that compute together compare before they begin, by a store of torch in one process, and their devices."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from gee_core.errors import InputError
from gee_core.rank import Rank
from pipelines.engines import ranks
from pipelines.engines.ranks import at_work_together, check_alike
from pipelines.runtime.process_tree import file_lock
from pipelines.runtime.run_files import HELD, Record
from pipelines.runtime.run_folder import RunFolder


@pytest.fixture
def store(monkeypatch):
    store = dist.HashStore()
    monkeypatch.setattr(ranks, "common_store", lambda: store)
    return store


def end_of(check, number: int) -> str | int | None:
    """How a process ends that runs ``check``: its message, its exit code, or None where it goes on."""
    try:
        check(number)
    except InputError as error:
        return str(error)
    except SystemExit as error:
        return error.code
    return None


@pytest.mark.parametrize("others", ["float32", "bfloat16"])
def test_processes_that_round_otherwise_are_refused_and_the_first_says_so(others, store, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "a")

    def check(number: int) -> None:
        own = {"torch": "2.13", "number format": others if number else "float32"}
        check_alike(Rank(number, 3), own, "use one kind")

    with ThreadPoolExecutor(3) as threads:
        ends = list(threads.map(end_of, 3 * [check], range(3)))
    said = [f"process {n} (on a) has number format = bfloat16, process 0 (on a) float32: use one kind" for n in (1, 2)]
    assert ends == ([None] * 3 if others == "float32" else ["\n".join(said), 2, 2])


def test_the_others_wait_while_another_process_is_at_work_on_the_run(tmp_path, store):
    events, folder = [], tmp_path / "train-run"
    run = RunFolder(tmp_path / "train-new", Record(level="stage"))

    def work(number: int) -> None:
        with at_work_together(Rank(number, 3), run.at_work_in(folder)):
            events.append("begun")

    with ThreadPoolExecutor(3) as threads:
        with file_lock(folder / HELD):
            done = [threads.submit(work, number) for number in range(3)]
            events.append("free")
        try:
            done[0].result()
        finally:
            store.set("at work", "")  # where the first failed, the others end too
    assert not any(future.exception() for future in done)
    assert events == ["free", "begun", "begun", "begun"]


GPUS = [
    ("cpu", 4, 1, 2, "cpu"),
    ("auto", 4, 1, 2, "cuda:1"),
    ("cuda:1", 4, 0, 1, "cuda:1"),
    ("auto", 2, 0, 3, "3 processes on a: each needs a GPU of its own, and torch sees 2: start 2 there (--nproc-per-node)"),
    ("auto", 2, 2, 3, 2),
    ("cuda:1", 4, 0, 2, "2 processes on a: each needs a GPU of its own, and base.device = cuda:1 is one GPU: start 1 there"),
]


@pytest.mark.parametrize(("device", "n_gpus", "local", "of", "end"), GPUS)
def test_each_process_has_a_gpu_of_its_own(device, n_gpus, local, of, end, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: n_gpus)
    monkeypatch.setattr("platform.node", lambda: "a")
    monkeypatch.setenv("LOCAL_RANK", str(local))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(of))
    found = []
    found.append(end_of(lambda number: found.append(ranks._own_device(device)), 0) or found[0])
    assert str(found[-1]).startswith(str(end))

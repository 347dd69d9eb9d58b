"""What processes that compute together compare before they begin, by a store of torch in one process."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from pipelines.runtime.resume_folder import HELD

from gee_core.errors import InputError
from gee_core.hardware import Compute
from gee_core.rank import Rank
from pipelines.engines import ranks
from pipelines.engines.ranks import at_work_together, check_alike, check_reach, check_same, rounding
from pipelines.runtime.file_lock import file_lock
from tests.wait_until import wait_until

FP32 = Compute(torch.device("cpu"), torch.float32)
BF16 = Compute(torch.device("cpu"), torch.bfloat16)


@pytest.fixture
def compared(monkeypatch):
    """How each process ends that has these values: its message, its exit code, or None where the process goes on."""

    def compare(*of_ranks) -> list[str | int | None]:
        store, n = dist.HashStore(), len(of_ranks)
        monkeypatch.setattr(ranks, "common_store", lambda: store)

        def check(number: int) -> str | int | None:
            try:
                check_alike(Rank(number, n), of_ranks[number], "use one kind")
            except InputError as error:
                return str(error)
            except SystemExit as error:
                return error.code
            return None

        with ThreadPoolExecutor(n) as threads:
            return list(threads.map(check, range(n)))

    return compare


def test_processes_that_round_alike_go_on(compared):
    assert compared(rounding(FP32), rounding(FP32), rounding(FP32)) == [None, None, None]


def test_processes_in_other_number_formats_are_refused_and_the_first_says_so(compared, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "a")
    said = [f"process {n} (on a) has number format = bfloat16, process 0 (on a) float32: use one kind" for n in (1, 2)]
    assert compared(rounding(FP32), rounding(BF16), rounding(BF16)) == ["\n".join(said), 2, 2]


def test_each_thing_on_which_rounding_depends_is_compared(monkeypatch):
    for name in ("GEE_COMPILE", "GEE_DETERMINISTIC"):  # as the tests are started, and as `gee energy` leaves them
        monkeypatch.delenv(name, raising=False)
    first = rounding(FP32)
    monkeypatch.setattr("gee_core.hardware.kind_of_cpu", lambda: "old")
    monkeypatch.setattr("torch.__version__", "2.6.0")
    monkeypatch.setenv("GEE_DETERMINISTIC", "1")
    monkeypatch.setenv("GEE_COMPILE", "0")
    second = rounding(BF16)
    assert second.pop("device") == "CPU of kind old"
    assert list(second.values()) == ["bfloat16", "2.6.0", "0", "1"]
    assert all(first[name] != value for name, value in second.items())


def test_other_params_are_refused(monkeypatch):
    store = dist.HashStore()
    monkeypatch.setattr(ranks, "common_store", lambda: store)
    store.set("params, inputs and code/1", '["b", {"params, inputs and code": "cd"}]')
    with pytest.raises(InputError, match=r"process 1 \(on b\) has params, inputs and code = cd, process 0 .* ab: start all"):
        check_same(Rank(0, 2), "ab")
    check_same(Rank(0, 1), "ab")


class WaitedFor:
    """A store, and the times for which the others were ready to wait for what the first writes."""

    def __init__(self):
        self.store, self.limits = dist.HashStore(), []
        self.set = self.store.set

    def wait(self, keys, limit):
        self.limits.append(limit)
        self.store.wait(keys, limit)


def test_the_others_wait_without_an_end_while_another_process_is_at_work_on_the_run(tmp_path, monkeypatch):
    store, events, folder = WaitedFor(), [], tmp_path / "train/run"  # those beside it are taken for runs too
    monkeypatch.setattr(ranks, "common_store", lambda: store)

    def work(number: int) -> None:
        with at_work_together(Rank(number, 3), folder):
            events.append("begun")

    with ThreadPoolExecutor(3) as threads:
        with file_lock(folder / HELD):
            done = [threads.submit(work, number) for number in range(3)]
            wait_until(lambda: len(store.limits) == 2)
            events.append("free")
        try:
            done[0].result()
        finally:
            store.set("at work", "")  # where the first failed, the others end too
    assert not any(future.exception() for future in done)
    assert events == ["free", "begun", "begun", "begun"]
    assert min(store.limits) > timedelta(days=365)


@pytest.mark.parametrize(("of", "batch", "fits"), [(1, 1, True), (2, 4, True), (2, 3, False)])
def test_processes_are_refused_where_a_batch_does_not_reach_for_all(of, batch, fits):
    if fits:
        check_reach(of, batch, "x")
        return
    with pytest.raises(InputError, match=rf"^x: batches of {batch}, .*: set train\.batch_size to {2 * of} or more"):
        check_reach(of, batch, "x")

"""What processes that compute together compare before they begin, by a store of torch in one process."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from gee_core.errors import InputError
from gee_core.hardware import Compute
from gee_core.rank import Rank
from pipelines.runtime import agreement
from pipelines.runtime.agreement import at_work_together, check_alike, check_share, traits
from pipelines.runtime.file_lock import file_lock
from pipelines.runtime.resume_folder import HELD
from tests.wait_until import wait_until

FP32 = Compute(torch.device("cpu"), torch.float32)
BF16 = Compute(torch.device("cpu"), torch.bfloat16)


def compared(*of_ranks) -> list[str | int | None]:
    """How each process ends that has these traits: its message, its exit code, or None where it goes on."""
    store, n = dist.HashStore(), len(of_ranks)

    def check(number: int) -> str | int | None:
        try:
            check_alike(Rank(number, n), of_ranks[number], store)
        except InputError as error:
            return str(error)
        except SystemExit as error:
            return error.code
        return None

    with ThreadPoolExecutor(n) as threads:
        return list(threads.map(check, range(n)))


def test_processes_that_round_alike_go_on():
    assert compared(traits(FP32), traits(FP32), traits(FP32)) == [None, None, None]


def test_processes_in_other_number_formats_are_refused_and_the_first_says_so(monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "a")
    said = "process 1 (on a), 2 (on a) computes in bfloat16, process 0 (on a) in float32: set base.precision to fp32 or bf16"
    assert compared(traits(FP32), traits(BF16), traits(BF16)) == [said, 2, 2]


def set_kind_of_cpu(patch):
    patch.setattr("gee_core.hardware.kind_of_cpu", lambda: "old")


def set_torch(patch):
    patch.setattr("torch.__version__", "2.6.0")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_kind_of_cpu, "computes on a CPU of kind old, process 0"),
        (set_torch, "has torch 2.6.0, process 0"),
        (lambda patch: patch.setenv("GEE_DETERMINISTIC", "1"), "has GEE_DETERMINISTIC = 1, process 0"),
    ],
)
def test_each_difference_has_a_line_of_its_own(change, said, monkeypatch):
    for name in ("GEE_COMPILE", "GEE_DETERMINISTIC"):  # as the tests are started, and as `gee energy` leaves them
        monkeypatch.delenv(name, raising=False)
    first = traits(FP32)
    with monkeypatch.context() as other:
        change(other)
        second = traits(BF16)
    message, code = compared(first, second)
    lines = message.splitlines()
    assert (len(lines), code) == (2, 2)
    assert any(said in line for line in lines)
    assert any("computes in bfloat16" in line for line in lines)


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
    monkeypatch.setattr(agreement, "common_store", lambda: store)

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
def test_processes_that_torch_started_are_refused_where_a_batch_does_not_reach_for_all(of, batch, fits):
    if fits:
        check_share(Rank(0, of), batch)
        check_share(Rank(of - 1, of), batch)
        return
    with pytest.raises(
        InputError, match=rf"^{of} processes: batches of {batch}, .*: set train\.batch_size to {2 * of} or more"
    ):
        check_share(Rank(0, of), batch)
    with pytest.raises(SystemExit):
        check_share(Rank(of - 1, of), batch)

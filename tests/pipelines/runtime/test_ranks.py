"""Several processes of a stage: how many, on which devices, and what is said where they end."""

import os
import signal
from typing import NamedTuple

import psutil
import pytest
from torch.distributed.elastic.multiprocessing import SignalException

from gee_core.errors import InputError
from pipelines.runtime import ranks


class Failure(NamedTuple):
    """What torch's launcher says of a process that failed; one that left a message has a time of its own."""

    local_rank: int
    exitcode: int
    said: str = ""
    timestamp: int = 8

    @property
    def error_file_data(self):
        told = {"message": self.said, "extraInfo": {"py_callstack": f"{self.said}\n"}}
        return {"message": told if self.said else "<NONE>"}


LOST = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:62628"
SLOW = "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation"


@pytest.mark.parametrize(
    ("failures", "code", "said"),
    [
        ([Failure(0, -9), Failure(1, 1, LOST, 7)], 1, "process 0 of 2 was ended by SIGKILL"),
        ([Failure(0, -9), Failure(1, -15, LOST, 7)], 1, "process 0 of 2 was ended by SIGKILL"),
        ([Failure(1, 1, LOST, 7), Failure(0, -9)], 1, "process 0 of 2 was ended by SIGKILL"),
        ([Failure(0, -9), Failure(1, -15)], 1, "process 0 of 2 was ended by SIGKILL"),
        ([Failure(1, -15), Failure(0, 1, LOST, 7)], 1, "process 1 of 2 was ended by SIGTERM"),
        ([Failure(0, 2, "out of memory"), Failure(1, -15, "", 7)], 2, "out of memory"),
        ([Failure(0, 2, "out of memory"), Failure(1, 1, LOST, 7)], 2, "out of memory"),
        ([Failure(0, 1, "KeyError"), Failure(1, -15)], 1, "KeyError"),
        ([Failure(0, 1, LOST, 7), Failure(1, 1, "KeyError")], 1, "KeyError"),
        ([Failure(0, -9), Failure(1, 1)], 1, "process 0 of 2 was ended by SIGKILL"),
        ([Failure(0, 2, "other params"), Failure(1, 2, timestamp=9)], 2, "other params"),
        ([Failure(0, 1), Failure(1, -15)], 1, ""),
        ([Failure(0, 143, timestamp=9), Failure(1, 1, SLOW)], 1, SLOW),
        ([Failure(0, 143), Failure(1, 2, "damaged", 9)], 2, "damaged"),
        ([Failure(0, 143), Failure(1, -15, timestamp=9)], 1, "process 0 of 2 was ended by SIGTERM"),
        ([Failure(0, 143, timestamp=9), Failure(1, 1, LOST)], 1, "process 0 of 2 was ended by SIGTERM"),
        ([Failure(0, 143, timestamp=7), Failure(1, 1)], 1, ""),
        ([Failure(0, -9, timestamp=7), Failure(1, 2, "damaged")], 2, "damaged"),
    ],
)
def test_what_is_said_is_what_happened_first_and_not_what_followed_from_it(failures, code, said, capsys):
    assert ranks._report("train", 2, failures) == code
    printed = capsys.readouterr().err
    assert printed.removeprefix("train: error: ").startswith(said)
    assert bool(printed) == bool(said)


@pytest.mark.parametrize(
    ("variable", "device", "n_gpus", "batch", "expected"),
    [
        (None, "cpu", 4, 32, 1),
        (None, "auto", 0, 32, 1),
        (None, "auto", 4, 64, 4),
        (None, "auto", 8, 32, 2),
        (None, "auto", 8, 8, 1),
        (None, "cuda:1", 4, 32, 1),
        ("3", "cpu", 0, 32, 3),
        ("3", "cuda", 4, 32, 3),
        ("1", "auto", 0, 1, 1),
    ],
)
def test_the_number_of_processes(variable, device, n_gpus, batch, expected, make_params, monkeypatch):
    with_gpus(monkeypatch, n_gpus, variable)
    assert ranks.n_processes(make_params(base={"device": device}, train={"batch_size": batch})) == expected


@pytest.mark.parametrize(
    ("variable", "device", "n_gpus", "batch", "message"),
    [
        ("5", "auto", 4, 32, r"GEE_TRAIN_PROCESSES = 5: each process needs a GPU of its own, and torch sees 4: set it to 4"),
        ("2", "cuda:0", 4, 32, r"GEE_TRAIN_PROCESSES = 2: .* base.device = cuda:0 is one GPU"),
        ("5", "cpu", 0, 9, r"GEE_TRAIN_PROCESSES = 5: batches of 9, .*: set train.batch_size to 10 or more"),
    ],
)
def test_more_processes_than_gpus_or_images_are_refused(variable, device, n_gpus, batch, message, make_params, monkeypatch):
    with_gpus(monkeypatch, n_gpus, variable)
    with pytest.raises(InputError, match=message):
        ranks.n_processes(make_params(base={"device": device}, train={"batch_size": batch}))


def with_gpus(monkeypatch, n: int, variable: str | None) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: n)
    monkeypatch.setattr("torch.cuda.is_available", lambda: n > 0)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: pytest.fail("this takes memory of a GPU"))
    monkeypatch.delenv("GEE_TRAIN_PROCESSES", raising=False)
    if variable:
        monkeypatch.setenv("GEE_TRAIN_PROCESSES", variable)


@pytest.mark.parametrize(
    ("device", "n_gpus", "local", "of", "expected"),
    [
        ("cpu", 4, 1, 2, "cpu"),
        ("auto", 0, 1, 2, "auto"),
        ("auto", 4, 1, 2, "cuda:1"),
        ("cuda", 4, 3, 4, "cuda:3"),
        ("cuda:1", 4, 0, 1, "cuda:1"),
    ],
)
def test_the_device_of_one_of_several_processes(device, n_gpus, local, of, expected, monkeypatch):
    current = in_place(monkeypatch, n_gpus, local, of)
    assert ranks._own_device(device) == expected
    assert current == ([expected] if expected.startswith("cuda") else [])


@pytest.mark.parametrize(
    ("device", "n_gpus", "of", "said"),
    [
        ("auto", 2, 3, "3 processes on a: each needs a GPU of its own, and torch sees 2: start 2 there (--nproc-per-node)"),
        ("cuda:1", 4, 2, "2 processes on a: each needs a GPU of its own, and base.device = cuda:1 is one GPU: start 1 there"),
    ],
)
def test_more_processes_of_torchrun_than_gpus_are_refused_by_one_of_a_machine(device, n_gpus, of, said, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "a")
    in_place(monkeypatch, n_gpus, 0, of)
    with pytest.raises(InputError) as refused:
        ranks._own_device(device)
    assert str(refused.value).startswith(said)
    in_place(monkeypatch, n_gpus, of - 1, of)
    with pytest.raises(SystemExit):
        ranks._own_device(device)


@pytest.mark.parametrize(("device", "expected"), [("cuda:1", ["cuda:1"]), ("cuda", []), ("auto", []), ("cpu", [])])
def test_the_gpu_of_a_single_process_is_torchs_current_one(device, expected, make_params, monkeypatch):
    current = in_place(monkeypatch, 2, 0, 1)
    with ranks.joined(make_params(base={"device": device, "precision": "fp32"}).base):
        assert [str(found) for found in current] == expected


def in_place(monkeypatch, n_gpus: int, local: int, of: int) -> list[str]:
    """Be process ``local`` of ``of`` on a machine with GPUs; the GPUs that are made torch's current one."""
    with_gpus(monkeypatch, n_gpus, None)
    monkeypatch.setenv("LOCAL_RANK", str(local))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(of))
    current = []
    monkeypatch.setattr("torch.cuda.set_device", current.append)
    return current


@pytest.mark.parametrize(
    ("n_cpus", "processes", "by_user", "expected"),
    [(8, 2, {}, 4), (3, 2, {}, 1), (1, 4, {}, 1), (8, 2, {"OMP_NUM_THREADS": "3"}, None), (None, 2, {}, 8)],
)
def test_processes_share_the_cpus_that_they_may_use_unless_the_user_said_how_many(
    n_cpus, processes, by_user, expected, monkeypatch
):
    found = []
    monkeypatch.setattr("torch.set_num_threads", found.append)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(n_cpus), raising=False)
    if n_cpus is None:
        monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of torchrun
    monkeypatch.setattr(psutil.Process, "environ", lambda launcher: by_user)
    ranks._share_cpus()
    assert found == ([] if expected is None else [expected])


@pytest.fixture
def own_signals():
    """SIGHUP and SIGQUIT as the shell has them that started the tests, again after the test."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGHUP, signal.SIGQUIT)]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_is_ignored_stays_ignored_and_the_others_end_the_processes(ignored, own_signals, monkeypatch, capsys):
    (other,) = {signal.SIGHUP, signal.SIGQUIT} - {ignored}
    signal.signal(ignored, signal.SIG_IGN)
    signal.signal(other, signal.SIG_DFL)
    handled = []

    def launch(config, command):
        handled.extend(config.signals_to_handle.split(","))
        raise SignalException("stopped", other)

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", launch)
    monkeypatch.setattr(ranks, "die_with_parent", lambda: None)
    monkeypatch.setattr("logging.disable", lambda: None)
    monkeypatch.setattr("os.environ", dict(os.environ))
    with pytest.raises(SystemExit) as ended:
        ranks._run_processes("train", 2)
    assert ended.value.code == 128 + other
    assert set(handled) == {"SIGTERM", "SIGINT", other.name}
    assert capsys.readouterr().err == f"train: ended by {other.name}; `dvc repro` continues where it stopped\n"


@pytest.mark.parametrize(("error", "code"), [(InputError("connection lost", "start again"), 2), (KeyboardInterrupt(), 130)])
def test_a_process_that_was_stopped_is_not_interrupted_while_it_ends(error, code, tmp_path, monkeypatch):
    said = tmp_path / "error.json"
    monkeypatch.setenv(ranks.ERROR_FILE, str(said))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended, ranks.errors_for_command():
            raise error
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == code
    text = said.read_text() if said.exists() else ""
    assert ("connection lost" in text) == (code == 2)

"""Several processes of a stage: how many, on which devices, and what is said where one of them fails."""

import multiprocessing
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from gee_core.errors import InputError
from pipelines.engines import processes, ranks
from pipelines.runtime.process_tree import started_by_command


@pytest.fixture
def run_ranks(monkeypatch):
    """Runs a function in two forked processes."""
    monkeypatch.setattr(processes, "CONTEXT", multiprocessing.get_context("fork"))
    monkeypatch.setattr(ranks, "die_with_parent", lambda: None)
    monkeypatch.setattr(ranks, "exit_on_sigterm", lambda: None)
    for name in ("GEE_LOADER_WORKERS", "TORCH_CPP_LOG_LEVEL", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "1")  # or it would outlive the test

    def run(function) -> None:
        monkeypatch.setattr(ranks.importlib, "import_module", lambda name: SimpleNamespace(main=function))
        ranks._run_ranks("train", 2)

    return run


def note_variables():
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    values = [*(os.environ[name] for name in names), str(started_by_command())]
    Path(os.environ["GEE_TEST_MARK"] + os.environ["RANK"]).write_text(" ".join(values))


def raises_in_the_second():
    if ranks.this_rank().number == 0:
        time.sleep(3600)
    raise InputError("the disk is full", "free some space")


def is_killed_in_the_first():
    if ranks.this_rank().number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(3600)


def is_stopped_in_the_second():
    if ranks.this_rank().number == 1:
        raise SystemExit(143)
    time.sleep(3600)


def test_processes_have_torchruns_variables(run_ranks, tmp_path, monkeypatch):
    monkeypatch.setenv("GEE_TEST_MARK", str(tmp_path / "rank"))
    run_ranks(note_variables)
    assert [(tmp_path / f"rank{n}").read_text() for n in range(2)] == [f"{n} {n} 2 2 True" for n in range(2)]


def test_the_error_of_one_is_the_commands_and_the_other_ends(run_ranks):
    with pytest.raises(InputError, match=r"^the disk is full: free some space"):
        run_ranks(raises_in_the_second)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (is_killed_in_the_first, "process 0 of 2 was ended by SIGKILL: memory may have run out; `dvc repro` continues"),
        (is_stopped_in_the_second, "process 1 of 2 was ended by SIGTERM: `dvc repro` continues"),
    ],
)
def test_a_death_is_one_message_and_the_other_ends(function, said, run_ranks, capsys):
    with pytest.raises(SystemExit) as ended:
        run_ranks(function)
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"train: error: {said}")
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("variable", "device", "n_gpus", "batch", "expected"),
    [
        (None, "cpu", 4, 32, 1),
        (None, "auto", 8, 32, 2),
        (None, "cuda:1", 4, 32, 1),
        ("3", "cuda", 4, 32, 3),
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

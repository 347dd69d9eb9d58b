"""The stage train in two processes: killed, stopped and started again it writes the bytes of an undisturbed run."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from torch.distributed.elastic.multiprocessing import SignalException

from gee_core.errors import InputError
from pipelines.runtime import ranks
from tests.free_port import free_port
from tests.pipelines.test_train_stage import write_genotype

ROOT = Path(__file__).resolve().parents[2]
RESULTS = [
    "models/train/network.safetensors",
    "models/train/network.json",
    "reports/train/history.csv",
    "reports/train/metrics.json",
]
LONG = {"epochs": 200}
"""Enough that a run which has saved its first state is far from its end."""


def start(folder: Path, *command: str, **variables: str) -> psutil.Popen:
    env = os.environ | {"PYTHONPATH": str(ROOT), "GEE_TRACKING": "off", "GEE_TRAIN_PROCESSES": "2"} | variables
    command = command or (sys.executable, "-m", "pipelines.train")
    return psutil.Popen(command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True)


def end(process: psutil.Popen) -> tuple[int, list[str]]:
    """(exit code, what it said but for progress) of a run that is waited for."""
    _, said = process.communicate(timeout=600)
    return process.returncode, [line for line in said.splitlines() if not line.startswith("train ")]


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in RESULTS]


def states(folder: Path) -> set[str]:
    return {path.name for path in folder.glob(".scratch/train/*/step-*.json")}


def stop(folder: Path, rank: int | None, number: signal.Signals) -> tuple[int, list[str], list[psutil.Process]]:
    """Send ``number`` to process ``rank``, or the command, once it saved a state; (exit code, what it said, who is left)."""
    before = states(folder)
    process = start(folder)
    while not states(folder) - before:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    workers = [child for child in process.children(recursive=True) if "RANK" in child.environ()]
    assert sorted(worker.environ()["RANK"] for worker in workers) == ["0", "1"]
    target = process if rank is None else next(w for w in workers if w.environ()["RANK"] == str(rank))
    target.send_signal(number)
    code, said = end(process)
    return code, said, psutil.wait_procs(workers, timeout=60)[1]


@pytest.fixture
def project(in_project):
    folder = in_project(train=LONG)
    write_genotype(folder)
    return folder


@pytest.mark.slow
def test_a_run_that_is_killed_and_stopped_ends_in_the_bytes_of_an_undisturbed_one(project):
    assert end(start(project)) == (0, [])
    expected = contents(project)
    for path in project.glob(".scratch/train/*/*"):
        path.unlink()
    lost = "was ended by SIGKILL: memory may have run out; `dvc repro` continues where it stopped"
    for rank in (0, 1):
        assert stop(project, rank, signal.SIGKILL) == (1, [f"train: error: process {rank} of 2 {lost}"], [])
    ended = "train: error: process 0 of 2 was ended by SIGTERM: `dvc repro` continues where it stopped"
    assert stop(project, 0, signal.SIGTERM) == (1, [ended], [])
    assert stop(project, None, signal.SIGTERM) == (143, [], [])
    interrupted = "train: interrupted; `dvc repro` continues where it stopped"
    assert stop(project, None, signal.SIGINT) == (130, [interrupted], [])
    assert end(start(project)) == (0, [])
    assert contents(project) == expected


@pytest.mark.slow
def test_another_number_of_processes_does_not_go_on_with_the_run(project):
    stop(project, None, signal.SIGTERM)
    code, said = end(start(project, GEE_TRAIN_PROCESSES="1"))
    assert code == 2
    assert len(said) == 1
    assert "2 processes began this training run, which 1 cannot continue" in said[0]


@pytest.mark.slow
def test_processes_with_other_params_are_refused_with_one_message(project, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "project"
    shutil.copytree(project, other)
    text = (other / "params.yaml").read_text()
    (other / "params.yaml").write_text(text.replace("label_smoothing: 0.1", "label_smoothing: 0.2"))
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--master-port={free_port()}")
    nodes = [
        start(folder, *torchrun, f"--node-rank={number}", "--master-addr=127.0.0.1", "-m", "pipelines.train")
        for number, folder in enumerate((project, other))
    ]
    said = [line for node in nodes for line in end(node)[1] if line.startswith("train: error")]
    assert len(said) == 1
    assert "process 1 (on " in said[0]
    assert "has other params, inputs or code than process 0" in said[0]
    assert all(node.returncode for node in nodes)


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
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
    monkeypatch.delenv("GEE_TRAIN_PROCESSES", raising=False)
    if variable:
        monkeypatch.setenv("GEE_TRAIN_PROCESSES", variable)


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

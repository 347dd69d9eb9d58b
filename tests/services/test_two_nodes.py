"""torchrun as two nodes in two network namespaces, joined by a cable (veth): the bytes of two processes of one node."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.pipelines.conftest import digits, in_project, make_params  # noqa: F401 - fixtures
from tests.pipelines.test_train_processes import ROOT, states
from tests.pipelines.test_train_stage import write_genotype
from tests.wait_until import wait_until

LONG = {"epochs": 40}
"""Enough that a run which has saved its first state is far from its end."""
STAGES = ("train", "evaluate", "robustness")


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"ip {' '.join(words)}: {done.stderr.strip()}")


@pytest.fixture
def nodes() -> Iterator[list[str]]:
    """The names of two namespaces, which are those of their devices too, with the addresses 10.77.0.1 and 10.77.0.2."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("namespaces need root and the program `ip` (apt-get install iproute2)")
    names = [f"gee{os.getpid()}{letter}" for letter in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", names[0], "netns", names[0], "type", "veth", "peer", "name", names[1], "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", name)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", name, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)  # with its device, and so the other's


def start(nodes: list[str], stage: str, folder: Path) -> list[psutil.Popen]:
    """torchrun on both nodes, as docs/CLUSTER.md has it."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    torchrun += ["--master-addr", "10.77.0.1", "--master-port", "29500"]
    return [
        psutil.Popen(
            ["ip", "netns", "exec", name, *torchrun, "--node-rank", str(rank), "-m", f"pipelines.{stage}"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": name},
        )
        for rank, name in enumerate(nodes)
    ]


def codes(processes: list[psutil.Popen]) -> list[int]:
    return [process.wait(600) for process in processes]


def kill(node: psutil.Popen) -> None:
    for process in [*node.children(recursive=True), node]:
        process.kill()


def results(folder: Path) -> dict[str, bytes]:
    files = [path for part in ("models/train", "reports") for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_two_nodes_make_the_bytes_of_one_also_after_each_was_killed(nodes, request, tmp_path):
    hardware = {"n_draws": 1, "max_images": 10, "weights": [0.0, 0.8], "lost_step": [1]}
    robust = {"strengths": [0.0, 0.5], "n_seeds": 2, "batch_size": 10, "hardware": hardware}
    folder = request.getfixturevalue("in_project")(train=LONG, evaluate={"exit": [0.5, 1.0]}, robustness=robust)
    write_genotype(folder)
    one = shutil.copytree(folder, tmp_path / "one")
    for stage in STAGES:
        command = [sys.executable, "-m", f"pipelines.{stage}"]
        env = os.environ | {"PYTHONPATH": str(ROOT), "GEE_TRAIN_PROCESSES": "2"}
        subprocess.run(command, cwd=one, env=env, check=True, stderr=subprocess.DEVNULL)
    for killed in (1, 0):
        before, running = states(folder), start(nodes, "train", folder)
        wait_until(lambda: states(folder) - before or any(process.poll() is not None for process in running))  # noqa: B023
        kill(running[killed])
        assert all(codes(running)) and not (folder / "models/train").exists()
    for stage in STAGES:
        assert codes(start(nodes, stage, folder)) == [0, 0]
    assert len(results(one)) > 8 and results(folder) == results(one)

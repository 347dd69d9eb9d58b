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
from tests.pipelines.test_train_processes import ROOT, TORCHRUN, states
from tests.pipelines.test_train_stage import write_genotype
from tests.running import wait_until

STAGES = ("train", "evaluate", "robustness")


@pytest.fixture
def nodes() -> Iterator[list[str]]:
    """The names of two namespaces, which are those of their devices too, with the addresses 10.77.0.1 and 10.77.0.2."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("namespaces need root and the program `ip` (apt-get install iproute2)")
    names = a, b = [f"gee{os.getpid()}{letter}" for letter in "ab"]
    lines = [f"netns add {a}", f"netns add {b}", f"link add {a} netns {a} type veth peer name {b} netns {b}"]
    for number, name in enumerate(names, 1):
        lines.append(f"-n {name} address add 10.77.0.{number}/24 dev {name}")
        lines += [f"-n {name} link set {device} up" for device in ("lo", name)]
    try:
        for line in lines:
            if (done := subprocess.run(["ip", *line.split()], capture_output=True, text=True)).returncode:
                pytest.skip(f"ip {line}: {done.stderr.strip()}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)  # with its device, and so the other's


def start(nodes: list[str], stage: str, folder: Path) -> list[psutil.Popen]:
    """torchrun on both nodes, as docs/CLUSTER.md has it."""
    torchrun = (
        f"{sys.executable} -m torch.distributed.run --nnodes 2 --nproc-per-node 1 --master-addr 10.77.0.1 --master-port 29500"
    )
    started = []
    for rank, name in enumerate(nodes):
        command = f"ip netns exec {name} {torchrun} --node-rank {rank} -m pipelines.{stage}".split()
        env = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": name}
        started.append(psutil.Popen(command, cwd=folder, env=env))
    return started


def results(folder: Path) -> dict[str, bytes]:
    files = [path for part in ("models/train", "reports") for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_two_nodes_make_the_bytes_of_one_also_after_each_was_killed(nodes, request, tmp_path):
    hardware = {"n_draws": 1, "max_images": 10, "weights": [0.0, 0.8], "lost_step": [1]}
    robust = {"strengths": [0.0, 0.5], "n_seeds": 2, "batch_size": 10, "hardware": hardware}
    folder = request.getfixturevalue("in_project")(train={"epochs": 40}, evaluate={"exit": [0.5, 1.0]}, robustness=robust)
    write_genotype(folder)
    one = shutil.copytree(folder, tmp_path / "one")
    for stage in STAGES:
        command, env = [*TORCHRUN, f"pipelines.{stage}"], os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=one, env=env, check=True, stderr=subprocess.DEVNULL)
    for killed in (1, 0):
        before, running = states(folder), start(nodes, "train", folder)
        wait_until(lambda: states(folder) - before or any(process.poll() is not None for process in running))  # noqa: B023
        for process in [*running[killed].children(recursive=True), running[killed]]:
            process.kill()
        assert all(node.wait(600) for node in running) and not (folder / "models/train").exists()
    for stage in STAGES:
        assert [node.wait(600) for node in start(nodes, stage, folder)] == [0, 0]
    assert len(results(one)) > 8 and results(folder) == results(one)

"""Candidates on SLURM and over SSH by the scripts of docs/CLUSTER.md: the bytes of one machine, also after kills."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.project_copy import environment, run
from tests.running import free_port, listens, running, wait_until
from tests.services.conftest import N_SCORED, need, scored, section

PAGE = "CLUSTER.md"
OUTPUTS = "reports/evolve/candidates.csv", "models/evolve/genotype.json"


@pytest.fixture(scope="module")
def expected(project: Path) -> list[bytes]:
    """What evolve writes on the engine `processes`."""
    run(project, "dvc", "repro", "evolve", PYTHONPATH=str(project))
    return [(project / name).read_bytes() for name in OUTPUTS]


def evolved(project: Path, scheduler: str, interrupt: Callable[[], object], log: Path) -> list[bytes]:
    """What evolve writes on the workers of a scheduler, with ``interrupt`` when two candidates are scored."""
    shutil.rmtree(project / ".scratch")
    env = environment(GEE_ENGINE="dask", GEE_DASK=scheduler, PYTHONPATH=str(project))
    with log.open("wb") as output:
        process = subprocess.Popen(["dvc", "repro", "-s", "-f", "evolve"], cwd=project, env=env, stdout=output, stderr=output)
    wait_until(lambda: len(scored(project)) >= 2 or process.poll() is not None)
    assert len(scored(project)) < N_SCORED, log.read_text()
    interrupt()
    assert process.wait(600) == 0, log.read_text()
    assert len(scored(project)) == len(set(scored(project))) == N_SCORED
    return [(project / name).read_bytes() for name in OUTPUTS]


def test_dask_jobqueue_replaces_a_cancelled_job(slurm, project, expected, tmp_path):
    need("dask_jobqueue")
    script = "\n".join(section(PAGE, "SLURM")[:-1]).replace("10.0.0.1", "127.0.0.1")
    (tmp_path / "cluster.py").write_text(script.replace("/shared/gee/.venv/bin/python", sys.executable))

    def cancel() -> None:
        job = run(project, "squeue", "--noheader", "--format=%A", "--states=RUNNING", **slurm).split()[0]
        run(project, "scancel", job, **slurm)

    options = {"cwd": project, "env": environment(PYTHONPATH=str(project), **slurm)}
    command, file = [sys.executable, str(tmp_path / "cluster.py")], project / "scheduler.json"
    with running(command, tmp_path / "cluster.log", file.exists, **options):
        assert evolved(project, file.name, cancel, tmp_path / "evolve.log") == expected


def test_srun_starts_workers_which_a_second_job_replaces(slurm, project, expected, tmp_path):
    scheduler = next(line for line in section(PAGE, "Several machines by hand") if line.startswith("dask scheduler"))
    command = scheduler.replace("10.0.0.1", "127.0.0.1").replace("8786", str(free_port())).split()
    (tmp_path / "workers.sh").write_text("#!/bin/bash\n" + section(PAGE, "SLURM")[-1].replace("--ntasks=8", "--ntasks=2"))

    def submit() -> str:
        return run(project, "sbatch", "--parsable", "--ntasks=2", str(tmp_path / "workers.sh"), **slurm, **code).strip()

    def cancel() -> None:
        run(project, "scancel", first, **slurm)
        submit()

    file, code = project / "scheduler.json", {"PYTHONPATH": str(project)}
    file.unlink(missing_ok=True)
    with running(command, tmp_path / "scheduler.log", file.exists, cwd=project, env=environment(**code)):
        first = submit()
        assert evolved(project, file.name, cancel, tmp_path / "evolve.log") == expected
        run(project, "scancel", "--me", **slurm)


def test_dask_ssh_starts_workers_and_a_nanny_replaces_a_killed_one(sshd, project, expected, tmp_path):
    need("paramiko")
    (ssh_port, key, server), port = sshd, free_port()
    (tmp_path / "hosts.txt").write_text("127.0.0.1\n")
    command = next(line for line in section(PAGE, "Over SSH") if line.startswith("dask ssh"))
    command = command.replace("/shared/gee/.venv/bin/python", sys.executable).replace("--nworkers 8", "--nworkers 2")
    command += f" --scheduler-port {port} --ssh-port {ssh_port} --ssh-private-key {key}"

    def workers() -> list[psutil.Process]:
        found = []
        for process in server.children(recursive=True):
            with suppress(psutil.Error):  # it has ended meanwhile
                found += [process] * ("spawn_main" in " ".join(process.cmdline()))
        return found

    with running(command.split(), tmp_path / "ssh.log", lambda: listens(port), cwd=tmp_path, env=environment()):
        kill = lambda: workers()[0].kill()  # noqa: E731
        assert evolved(project, f"127.0.0.1:{port}", kill, tmp_path / "evolve.log") == expected
    wait_until(lambda: not workers())

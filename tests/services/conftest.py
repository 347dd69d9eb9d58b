"""Services as a lab has them, each on free ports and in a temporary folder: PostgreSQL, an S3 server, sshd and SLURM.

Nothing here installs anything: `make test-services` does. Where a service cannot be had, its tests are skipped and say why.
"""

import glob
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
import pytest

from pipelines.runtime.run_files import read_rows
from tests.project_copy import ROOT, SMALL, copy_project, environment
from tests.running import free_port, listens, running, wait_until

TINY = SMALL | {
    "network": SMALL["network"] | {"T": 2},
    "prepare": {"max_train_images": 200, "max_test_images": 60},
    "train": {"epochs": 1, "warmup_epochs": 0},
    "robustness": {"strengths": [0.0, 0.5], "n_seeds": 1, "hardware": None},
}
N_SCORED = 10
"""Candidates of TINY, and draws that score the best and the start again."""


def program(name: str, package: str) -> str:
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", *glob.glob("/usr/lib/postgresql/*/bin")])
    return shutil.which(name, path=path) or pytest.skip(f"there is no program {name}: apt-get install {package}")


def need(*packages: str) -> None:
    """Skip the test unless these can be imported."""
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        pytest.skip(f"there is no package {', '.join(missing)}: `make test-services` installs it")


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """With a short name, since sockets lie in it, and which other users can enter."""
    if os.geteuid():
        pytest.skip("services start as root")
    with tempfile.TemporaryDirectory(prefix="gee-services-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def postgres(folder: Path) -> Iterator[int]:
    """The port of a database server."""
    initdb, server = (program(name, "postgresql") for name in ("initdb", "postgres"))
    data, port = folder / "postgres", free_port()
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    owner = {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": data}
    subprocess.check_output([initdb, data, "--auth", "scram-sha-256", "--auth-local", "peer"], **owner)
    command = [server, "-D", data, "-p", str(port), "-k", data, "-c", "listen_addresses=127.0.0.1"]
    with running(command, folder / "postgres.log", lambda: listens(port), **owner):
        yield port


@pytest.fixture(scope="session")
def s3(folder: Path) -> Iterator[str]:
    """The address of an S3 server with the buckets mlflow and gee."""
    need("moto", "flask_cors")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, folder / "s3.log", lambda: listens(port)):
        for bucket in ("mlflow", "gee"):
            urlopen(Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT")).close()
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def sshd(folder: Path) -> Iterator[tuple[int, Path, psutil.Popen]]:
    """The port of an ssh server, the key that it lets in, and its process."""
    server, keygen, port = program("sshd", "openssh-server"), program("ssh-keygen", "openssh-client"), free_port()
    for name in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    variables = " ".join(f"{name}={environment()[name]}" for name in ("PATH", "GEE_COMPILE", "OMP_NUM_THREADS"))
    options = f"Port={port} ListenAddress=127.0.0.1 HostKey={folder}/host AuthorizedKeysFile={folder}/user.pub PidFile=none"
    options = [*options.split(), "StrictModes=no", "PermitRootLogin=yes", "Subsystem=sftp internal-sftp", f"SetEnv={variables}"]
    command = [server, "-D", "-f", "/dev/null", *(word for option in options for word in ("-o", option))]
    with running(command, folder / "sshd.log", lambda: listens(port)) as process:
        yield port, folder / "user", process


SLURM = """ClusterName=test SlurmctldHost={host}(127.0.0.1) SlurmctldPort={} SlurmdPort={} SlurmUser=root
AuthInfo=socket={folder}/munge.socket ProctrackType=proctrack/linuxproc TaskPlugin=task/none MpiDefault=none
StateSaveLocation={folder}/state SlurmdSpoolDir={folder}/spool SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/node.pid SlurmdParameters=config_overrides SelectTypeParameters=CR_Core GresTypes=gpu"""


@pytest.fixture(scope="session")
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """The variables for a SLURM of one node with two cores, and two GPUs that do not exist."""
    munged, controller, node = program("munged", "munge"), *(program(name, "slurm-wlm") for name in ("slurmctld", "slurmd"))
    host, variables, log = socket.gethostname().partition(".")[0], {"SLURM_CONF": f"{folder}/slurm.conf"}, folder / "slurm.log"
    settings = SLURM.format(free_port(), free_port(), host=host, folder=folder).split()
    settings += [f"NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=128000 Gres=gpu:2"]
    settings += [f"PartitionName=gpu Nodes={host} Default=YES", ""]
    (folder / "slurm.conf").write_text("\n".join(settings))
    (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
    (folder / "munge.key").touch(0o600)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    env = {"env": os.environ | variables}

    def told(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, **env).stdout

    with (
        running([munged, "-F", f"--socket={folder}/munge.socket", *files], log, (folder / "munge.socket").exists),
        running([controller, "-D"], log, lambda: host in told("sinfo", "-N"), **env),
        running([node, "-D", "-N", host], log, lambda: "idle" in told("sinfo"), **env),
    ):
        yield variables
        told("scancel", "--me")
        wait_until(lambda: not told("squeue", "--noheader"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with tiny parameters, which has not run."""
    folder = tmp_path_factory.mktemp("project") / "gee"
    copy_project(folder, TINY)
    return folder


def section(page: str, heading: str) -> list[str]:
    """The commands below a heading of docs/``page``, without comments."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [re.sub(r"\s+#.*", "", line[4:]) for line in text.splitlines() if line.startswith("    ")]


def scored(project: Path) -> list[str]:
    """The keys of the candidates and draws that were scored so far."""
    rows = [row for folder in project.glob(".scratch/runs/evolve-*") for row in read_rows(folder)]
    return [row["child"] for row in rows if "child" in row]

"""docs/tutorials/team-server.md: its commands, with other ports and folders; a server that dies loses and doubles nothing."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from ruamel.yaml import YAML

from tests.project_copy import ROOT, environment, run
from tests.running import free_port, listens, running, wait_until
from tests.services.conftest import N_SCORED, TINY, need, scored, section

PAGE = "tutorials/team-server.md"
KEYS = {"AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "LONG-PASSWORD", "GEE_TRACKING": "on", "BROWSER": "true"}


class Lab(ExitStack):
    """The page's servers and commands, with the ports and folders of these tests."""

    def __init__(self, folder: Path, changes: dict[str, str]):
        super().__init__()
        self.folder, self.changes, self.ports = folder, changes | {"/etc/": f"{folder}/"}, {}
        for name, port in (("MLflow", 5000), ("Schedules", 4200)):
            own = self.ports[name] = free_port()
            self.changes |= {f"127.0.0.1:{port}": f"127.0.0.1:{own}", f"--port {port}": f"--port {own}"}
        for file in (ROOT / "examples/team-server").glob("gee*"):
            (folder / file.name).write_text(self.here(file.read_text()))

    def here(self, text: str) -> str:
        for old, new in self.changes.items():
            text = text.replace(old, new)
        return text

    def commands(self, heading: str) -> list[str]:
        return [self.here(line) for line in section(PAGE, heading) if not line.startswith(("apt-get", "pip install"))]

    def start(self, before: str, server: str, project: Path) -> psutil.Popen:
        options = {"cwd": project, "env": environment(PREFECT_HOME=f"{self.folder}/prefect")}
        command = ["bash", "-c", f"{before} && exec {server}"]
        return self.enter_context(running(command, self.folder / "servers.log", **options))

    def serve(self, heading: str) -> psutil.Popen:
        """The server with which a section of the page begins."""
        process = self.start(*self.commands(heading)[:2], self.folder)
        wait_until(lambda: listens(self.ports[heading]))
        return process

    def user(self, project: Path, *commands: str) -> str:
        """The output of commands of the user ada."""
        script = "\n".join([self.commands("Runs")[0], *commands])
        return run(project, "bash", "-ec", script, **KEYS, PYTHONPATH=str(project))

    def levels(self) -> Counter:
        """How many runs of each level MLflow has; all have ended well."""
        import mlflow

        client = mlflow.MlflowClient()
        runs = client.search_runs([client.get_experiment_by_name("gee").experiment_id])
        assert {run.info.status for run in runs} == {"FINISHED"}
        return Counter(run.data.tags["gee.level"] for run in runs)


@pytest.fixture(scope="module")
def lab(folder: Path, postgres: int, s3: str) -> Iterator[Lab]:
    """MLflow with the user ada, as the page sets it up."""
    need("psycopg", "flask_wtf", "boto3")
    with Lab(folder, {"@127.0.0.1/": f"@127.0.0.1:{postgres}/", "http://127.0.0.1:9000": s3}) as lab:
        env, password = environment(PGHOST=f"{folder}/postgres", PGPORT=str(postgres)), b"LONG-PASSWORD\n" * 2
        (databases,) = lab.commands("PostgreSQL")
        subprocess.run(["bash", "-c", databases], input=password, env=env, cwd="/", check=True, start_new_session=True)
        lab.server = lab.serve("MLflow")
        run(folder, "bash", "-ec", "\n".join(lab.commands("MLflow")[2:]))
        with pytest.MonkeyPatch.context() as patch:
            for name, value in re.findall(r"(\w+)=(\S+)", lab.commands("Runs")[0]):
                patch.setenv(name, value)
            yield lab


@pytest.fixture(scope="module")
def finished(lab: Lab, project: Path) -> Path:
    """The project, pushed to git, after a run in whose search MLflow's server was killed and started again."""
    run(project, "git", "init", "-q", "--bare", "-b", "main", "../origin.git")
    run(project, "bash", "-ec", "git remote add origin ../origin.git && git push -q -u origin main")
    command, env = "\n".join(lab.commands("Runs")[:2]), environment(**KEYS, PYTHONPATH=str(project))
    with (project.parent / "run.log").open("wb") as log:
        process = subprocess.Popen(["bash", "-ec", command], cwd=project, env=env, stdout=log, stderr=log)
    wait_until(lambda: len(scored(project)) >= 2 or process.poll() is not None)
    assert len(scored(project)) < N_SCORED
    for member in [*lab.server.children(recursive=True), lab.server]:
        member.kill()
    wait_until(lambda: len(scored(project)) >= 4)
    lab.serve("MLflow")
    assert process.wait(600) == 0, (project.parent / "run.log").read_text()
    lab.user(project, "gee track replay")
    return project


def test_a_server_that_is_killed_during_a_search_has_each_run_once(lab, finished):
    assert "Results  http://127.0.0.1" in lab.user(finished, lab.commands("Runs")[3])
    assert lab.levels() == {"pipeline": 1, "stage": 8, "candidate": 6, "rescore": N_SCORED - 6}


def test_a_registered_model_comes_back_from_s3(lab, finished, s3):
    predict = lab.commands("Runs")[-1].replace("photos", "models/export/example.png")
    here = predict.partition(" --model")[0]
    assert json.loads(lab.user(finished, predict)) == json.loads(lab.user(finished, here))
    keys = re.findall("<Key>(.*?)</Key>", urlopen(f"{s3}/mlflow?list-type=2").read().decode())
    assert sum(key.endswith("network.onnx") for key in keys) == 1


def test_two_cells_of_a_study_at_once_are_tracked_once(lab, finished):
    changes = {f"{section}.{key}": value for section, keys in TINY.items() for key, value in keys.items()}
    columns = [{"label": label, "set": {"evolve.variant": label}} for label in ("baseline", "analytic")]
    study = {"title": "Two", "preset": "digits", "seeds": 1, "set": changes, "grid": {"variant": columns}}
    with (finished / "studies/two.yaml").open("w") as file:
        YAML().dump(study | {"metrics": ["test_accuracy"], "plots": [], "published": []}, file)
    before = lab.levels()
    lab.user(finished, lab.commands("Runs")[2].replace("ablation", "two"), "gee track replay")
    assert lab.levels() - before == {"study": 1, "cell": 2}


def assert_same_in_a_clone(lab: Lab, finished: Path, folder: Path, *pull: str) -> None:
    """A clone at ``folder`` pulls the results of the project, and has nothing to run."""
    run(finished, "git", "clone", "-q", "../origin.git", str(folder))
    assert "Data and pipelines are up to date" in lab.user(folder, *pull)
    models, own = ({p.name: p.read_bytes() for p in place.glob("models/*/*") if p.is_file()} for place in (folder, finished))
    assert len(models) > 5 and models == own


def test_a_clone_pulls_from_s3_and_has_nothing_to_run(lab, finished, tmp_path):
    need("dvc_s3")
    add, endpoint, push, pull, gee_run, *_, exp_push, exp_list, exp_pull = lab.commands("Results")
    lab.user(finished, add, endpoint, push)
    assert_same_in_a_clone(lab, finished, tmp_path / "clone", pull, gee_run)
    lab.user(finished, "gee run --set report.title=Another")
    name = run(finished, "dvc", "exp", "list", "--name-only").split()[-1]
    lab.user(finished, exp_push.replace("NAME", name))
    lab.user(tmp_path / "clone", exp_list, exp_pull.replace("NAME", name))
    assert "title: Another" in (tmp_path / "clone/params.yaml").read_text()


def test_a_clone_pulls_over_ssh(lab, finished, sshd, tmp_path):
    need("dvc_ssh")
    port, key, _ = sshd
    add = next(line for line in lab.commands("Results") if "ssh://" in line).replace("user@host", f"root@127.0.0.1:{port}")
    key = f"dvc remote modify ssh-store keyfile {key}"
    lab.user(finished, add.replace("/srv", str(tmp_path)), key, "git commit -qam SSH", "git push -q", "dvc push")
    assert (tmp_path / "gee-store/files").is_dir()
    assert_same_in_a_clone(lab, finished, tmp_path / "clone", "dvc pull", "gee run")


def test_a_worker_runs_a_scheduled_flow_of_prefect_on_postgres(lab, finished, postgres):
    lab.serve("Schedules")
    address, pool, deploy, worker, at_once = lab.commands("Schedules")[2:]
    lab.user(finished, address, pool, deploy)
    lab.start(address, worker, finished)
    assert "Completed" in lab.user(finished, address, f"{at_once} --start-in 5s --watch")
    query = "SELECT name FROM flow_run WHERE state_type = 'COMPLETED'"
    psql = f'psql --host {lab.folder}/postgres --port {postgres} --tuples-only --command "{query}" prefect'
    assert len(run(Path("/"), "su", "postgres", "-c", psql).split()) == 1

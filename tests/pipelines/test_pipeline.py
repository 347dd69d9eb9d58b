"""The pipeline for real, with DVC, MLflow and git, in a copy of the project. Its tests build on each other, in order."""

import contextlib
import io
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from ruamel.yaml import YAML

from pipelines.orchestration.request import COMPARE
from pipelines.runtime.run_files import read_rows
from tests.project_copy import ROOT, commit, environment, run

UP_TO_DATE = "Data and pipelines are up to date."

pytestmark = pytest.mark.slow


def dvc(folder: Path, *arguments: str, **changes: str) -> str:
    return run(folder, sys.executable, "-m", "dvc", *arguments, **changes)


@pytest.fixture(scope="module")
def project(finished_project, tmp_path_factory) -> Path:
    """A copy of the finished project, for these tests to change."""
    folder = Path(shutil.copytree(finished_project, tmp_path_factory.mktemp("pipeline") / "project", symlinks=True))
    (folder / "mlflow.db").unlink()  # whose runs have their files where the copy was made from
    return folder


@pytest.fixture(scope="module")
def first(project) -> dict[str, bytes]:
    """What the first run made."""
    return {name: (project / name).read_bytes() for name in ("reports/evolve/candidates.csv", "reports/summary.json")}


def searched(content: bytes) -> pd.DataFrame:
    """The rows of candidates.csv that the search made, without what depends on its last generation."""
    rows = pd.read_csv(io.BytesIO(content))
    return rows[rows["rescored"].isna()].drop(columns=["rescored", "winner", "final_fitness"])


def test_a_second_run_runs_nothing(project, first):
    assert UP_TO_DATE in dvc(project, "repro")
    assert len(searched(first["reports/evolve/candidates.csv"])) == 6


def kill_evolve_after(project: Path, n_records: int, *command: str) -> tuple[Path, list[dict]]:
    """Start a `dvc` command, kill the stage evolve once it has scored so many candidates; returns their file and records."""
    env = environment(GEE_TRACKING="on", GEE_WORKERS="1")
    dvc_command = [sys.executable, "-m", "dvc", *command]
    earlier = set(project.glob(".scratch/runs/evolve-*/rows.jsonl"))
    process = psutil.Popen(dvc_command, cwd=project, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while process.poll() is None and time.monotonic() < deadline:
        logs = list(set(project.glob(".scratch/runs/evolve-*/rows.jsonl")) - earlier)
        if logs and logs[0].read_bytes().count(b'"child"') >= n_records:
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # `git` comes and goes
                    if "pipelines.evolve" in child.cmdline():
                        child.kill()
            break
        time.sleep(0.02)
    assert process.wait(timeout=600) != 0
    assert logs, "dvc ended before evolve began"
    return logs[0], records_of(logs[0])


def records_of(log: Path) -> list[dict]:
    return [row for row in read_rows(log.parent) if "child" in row]


def test_a_run_that_was_killed_goes_on_and_gives_what_a_run_gave_that_was_not(project, first):
    shutil.rmtree(project / ".scratch")
    again = "repro", "--force", "--single-item", "evolve"
    _, before = kill_evolve_after(project, 2, *again)
    assert 2 <= len(before) < 6
    dvc(project, *again, GEE_TRACKING="on")
    run(project, sys.executable, "-m", "pipelines.cli", "track", "replay")  # DVC does not wait for MLflow
    assert (project / "reports/evolve/candidates.csv").read_bytes() == first["reports/evolve/candidates.csv"]
    assert UP_TO_DATE in dvc(project, "repro")  # the same genotype as well

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (finished,) = client.search_runs(experiments, "tags.`gee.stage` = 'evolve' and attributes.status = 'FINISHED'")
    candidates = client.search_runs(experiments, f"tags.`mlflow.parentRunId` = '{finished.info.run_id}'")
    places = {(int(c.data.params["generation"]), int(c.data.params["index"])): c for c in candidates}
    assert len(candidates) == len(places) == len(pd.read_csv(project / "reports/evolve/candidates.csv")) > 2 * 3
    for record in before:  # scored again, it would have taken another time
        assert places[tuple(record["place"][:2])].data.metrics["seconds"] == record["metrics"]["seconds"]


def test_a_second_clone_pulls_the_results_and_has_nothing_to_run(project, first, tmp_path):
    dvc(project, "remote", "add", "-d", "storage", str(tmp_path / "storage"))
    commit(project, "results")
    dvc(project, "push")
    run(tmp_path, "git", "clone", "-q", str(project), "clone")
    clone = tmp_path / "clone"
    numbers = json.loads(dvc(clone, "metrics", "show", "--json"))[""]["data"]  # of git alone
    assert numbers["reports/summary.json"]["data"].items() <= json.loads(first["reports/summary.json"]).items()
    assert list(numbers) == ["reports/summary.json"]
    dvc(clone, "pull")
    assert UP_TO_DATE in dvc(clone, "repro")
    assert (clone / "reports/evolve/candidates.csv").read_bytes() == first["reports/evolve/candidates.csv"]


def test_an_experiment_changes_what_it_names_and_can_be_compared(project, first):
    dvc(project, "exp", "run", "-S", "evolve.n_generations=3", "-n", "longer", "evolve")
    longer = searched((project / "reports/evolve/candidates.csv").read_bytes())
    pd.testing.assert_frame_equal(longer[:6], searched(first["reports/evolve/candidates.csv"]))  # the same search, gone on
    assert len(longer) == 9
    rows = pd.read_csv(io.StringIO(dvc(project, "exp", "show", "--csv")))
    assert rows[rows.Experiment == "longer"]["evolve.n_generations"].tolist() == [3]
    assert rows[rows.rev == "main"]["evolve.n_generations"].tolist() == [2]
    few = pd.read_csv(io.StringIO(dvc(project, *shlex.split(COMPARE)[1:], "--csv")))
    assert list(few) == ["Experiment", "test_accuracy", "parameters", "energy_mj", "evolve.n_generations"]
    differences = dvc(project, "metrics", "diff", "--all", "--no-path", "--precision", "6", "workspace", "longer")
    assert differences.split()[:4] == ["Metric", "workspace", "longer", "Change"]
    plots = json.loads(dvc(project, "plots", "show", "--json"))["data"]
    points = plots["reports/evolve/candidates.csv"][0]["content"]["data"]["values"]
    places = [(p["generation"], p["index"]) for p in points if not p["rescored"]]
    assert places == [(str(g), str(i)) for g in range(3) for i in range(3)]
    assert {"training", "fitness", "energy", "noise", "confusion"} <= set(plots)


def test_params_as_they_were_bring_back_every_result_without_running_a_stage(project, first):
    """Also the results that git keeps, of which DVC has a copy too."""
    assert run(project, "git", "status", "--porcelain") != ""  # the experiment's results
    run(project, "git", "checkout", "-q", "--", "params.yaml")
    assert "Running stage" not in dvc(project, "repro")
    assert run(project, "git", "status", "--porcelain") == ""
    assert (project / "reports/evolve/candidates.csv").read_bytes() == first["reports/evolve/candidates.csv"]


def test_an_experiment_in_a_copy_that_was_killed_goes_on_in_another_copy(project, first):
    command = "exp", "run", "--temp", "--set-param", "base.seed=1", "evolve"
    log, before = kill_evolve_after(project, 2, *command)
    assert 2 <= len(before) < 6
    dvc(project, *command)
    after = records_of(log)
    assert len(after) > 6
    assert after[: len(before)] == before


TINY_OWN = {
    "network": {"name": "networks.spiking_vgg:SpikingVGG", "width": 0.25, "n_genes": 8},
    "evolve": {"n_generations": 1, "population_size": 2, "genes": ["wiring"], "budget": None, "rescore": None},
    "train": {"epochs": 2},
}


def test_an_own_network_runs_again_after_an_edit_and_a_refused_one_costs_nothing(project, first):
    yaml, params, file = YAML(), project / "params.yaml", project / "networks/spiking_vgg.py"
    values = yaml.load(params.read_bytes())
    for section, changes in TINY_OWN.items():
        values[section] |= changes
    yaml.dump(values, params)
    file.write_text((ROOT / "examples/spiking_vgg.py").read_text())
    ran = {"check", "evolve", "train", "plain", "evaluate", "robustness", "export", "report"}
    assert set(stages_that_run(dvc(project, "repro"))) == ran
    found = json.loads((project / "reports/summary.json").read_text())
    assert found["network"] == "networks.spiking_vgg:SpikingVGG" and found["energy_mj"] > 0 and found["onnx_agreement"] > 0.95
    text, trained = file.read_text(), (project / "models/train/network.safetensors").read_bytes()
    evolved = (project / "reports/evolve/candidates.csv").read_bytes()
    file.write_text(text.replace("x.repeat(self.T", "x.flatten().repeat(self.T", 1))
    with pytest.raises(AssertionError, match=r"evolve: error: network\.name = networks\.spiking_vgg:SpikingVGG: for images "):
        dvc(project, "repro")
    assert (project / "models/train/network.safetensors").read_bytes() == trained
    file.write_text(text)
    assert stages_that_run(dvc(project, "repro")) == []  # DVC restores what a refused network has emptied
    assert (project / "reports/evolve/candidates.csv").read_bytes() == evolved
    (project / "networks/another.py").write_text("x = 1\n")
    dvc(project, "repro", "check")
    stale = json.loads(dvc(project, "status", "--json"))
    assert {"evolve", "train", "evaluate", "robustness", "export"} <= set(stale) and "prepare" not in stale


def stages_that_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]

"""Environment variables: how the machine is used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bad_inputs.case import Case, param, row
from tests.bad_inputs.conftest import hashes

ROOT = Path(__file__).resolve().parents[2]


def variable(name: str, value: str, remedy: str = "must be a whole number", run: str = "settings") -> Case:
    shown = value if len(value) <= 40 else f"{value[:39]}…"
    return row(run, f"{name} = {shown}: ", remedy, env={name: value})


COUNTS = [
    variable(name, value)
    for name, values in {
        "GEE_WORKERS": ["all", "0", "1.5", "²", "9" * 5000],
        "GEE_THREADS": ["0", "100000"],
        "GEE_LOADER_WORKERS": ["-1", "100000"],
        "GEE_TRAIN_PROCESSES": ["0", "all"],
    }.items()
    for value in values
]
SWITCHES = [
    variable("GEE_COMPILE", "maybe", "must be one of"),
    variable("GEE_DETERMINISTIC", "yes", "must be one of"),
    variable("GEE_TRACKING", "of", "must be one of", "train"),
    variable("GEE_TRACKING", "of", "must be one of", "gee study run tiny"),
]
ELSEWHERE = [variable("GEE_WORKERS", "all", run="prepare")]
TOO_MANY = [
    row(
        stage,
        "GEE_TRAIN_PROCESSES = 4000: batches of ",
        "set train.batch_size to 8000 or more, or fewer processes",
        env={"GEE_TRAIN_PROCESSES": "4000"},
    )
    for stage in ("train", "evaluate", "robustness")
]
STORES = [
    row(
        run,
        "MLFLOW_TRACKING_URI = mlruns: a folder, which MLflow ",
        "write sqlite:///FILE",
        env={"MLFLOW_TRACKING_URI": "mlruns", "GEE_TRACKING": "on"},
    )
    for run in ("prepare", "gee run")
]
CASES = COUNTS + SWITCHES + ELSEWHERE + TOO_MANY + STORES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_variables_are_refused(case, refuses):
    refuses(case)


@pytest.mark.slow
def test_what_is_run_as_people_run_it_ends_with_one_message_and_exit_code_2(project):
    param("base.seed", "-1")(project)
    before = hashes(project)
    command = [sys.executable, "-m", "pipelines.cli", "run"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gee: error: params.yaml: base.seed = -1: input should be greater than or equal to 0\n"
    assert hashes(project) == before


@pytest.mark.slow  # a process of its own: MLflow keeps the stream that it first saw
def test_a_tracking_server_that_cannot_be_used_stops_no_stage_and_no_secret_reaches_a_file(project):
    env = {"PYTHONPATH": str(ROOT), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "GEE_TRACKING": "on"}
    env |= {"MLFLOW_TRACKING_URI": "http://user:sesame@127.0.0.1:1"}
    env |= dict.fromkeys(("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_KEY"), "sesame")
    command = [sys.executable, "-m", "pipelines.evaluate"]
    done = subprocess.run(command, cwd=project, env=os.environ | env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((project / "reports/evaluate/metrics.json").read_text())["test_accuracy"] > 0
    assert not [path for path in project.rglob("*") if path.is_file() and b"sesame" in path.read_bytes()]

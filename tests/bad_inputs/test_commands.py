"""Refusals end to end, about one per kind and command: exit code 2, one message, no traceback, and nothing lost or written."""

import json
import os
import subprocess
import sys

import pytest

from tests.bad_inputs.case import Case, cut, edit, params, remove, row, write
from tests.project_copy import ROOT

STUDY, IMAGE = "studies/tiny.yaml", "images/test/cat/0.png"
CHECKPOINT = "models/train/network.safetensors"
SEDE = edit("params.yaml", "^  seed: 0", "  seed: 0\n  sede: 1")
MLRUNS = {"MLFLOW_TRACKING_URI": "mlruns", "GEE_TRACKING": "on"}

STAGES = [
    row("report", "base.sede is not a known key", "did you mean seed?", SEDE),
    row("evolve", "params.yaml: base.seed = -1", "greater", params(base={"seed": -1}, train={"epochs": 0}), messages=2),
    row("check", "base.device = cuda:99: torch sees", "set it to auto or cpu", params(base={"device": "cuda:99"})),
    row(
        "evolve",
        "evolve.proxy.images: 1000 images are wanted",
        "at most that many",
        params(evolve={"proxy": {"epochs": 1, "images": 1000}}),
    ),
    row("train", "data/prepared/meta.json: not found", "`dvc repro prepare` makes it", remove("data/prepared")),
    row("train", "models/evolve/genotype.json: not found", "dvc repro evolve", remove("models/evolve/genotype.json")),
    row("export", "metrics.json: not found", "dvc repro -f evaluate", remove("reports/evaluate/metrics.json")),
]
RUN = [
    row("gee run", "prepare.path = nowhere", "put the images", params(prepare={"dataset": "folder", "path": "nowhere"})),
    row("gee run", "genes: 'sigma_99' is none of a network with 8", "leave it out", params(evolve={"genes": ["sigma_99"]})),
    row(
        "gee run",
        "genes: weight_decay is 0",
        "set it to 0.0",
        params(evolve={"proxy": {"epochs": 1, "weight_decay": 0.0}, "genes": ["plasticity"]}),
    ),
    row("evolve", "evolve.budget: the start has parameters = ", "or raise", params(evolve={"budget": {"parameters": 100}})),
    row("gee run", "MLFLOW_TRACKING_URI = mlruns: a folder, which MLflow ", "write sqlite:///FILE", env=MLRUNS),
]
COMMANDS = [
    row("gee evlove", "No such command 'evlove'", "--help"),
    row("gee count --network vgg16 --width -1", "width = -1.0", "Input should be greater than 0"),
    row("gee preset use digits --data x", "reads scikit-learn's digits", "leave --data out"),
    row("gee preset use other", "presets/digits.yaml: not found", "take", remove("presets/digits.yaml")),
    row("gee summary", "reports/summary.json: not found", "run `gee run`"),
    row("gee summary", "reports/summary.json: damaged", "delete it and run `gee run`", write("reports/summary.json", "{")),
    row("gee study run tiny --set train.epochs", "--set train.epochs", "write section.key=value"),
    row("gee study run tiny", "titel is not a known key", "mean title?", edit(STUDY, "^title:", "titel: x\ntitle:")),
    row("gee study run tiny", f"{STUDY}: no such device", "remove it", remove(STUDY), lambda p: os.mkfifo(p / STUDY)),
    row("gee data check nowhere", "nowhere: no such folder", "set prepare.path"),
    row(f"gee predict {IMAGE}", f"{IMAGE}: not a readable image", "remove it", cut(IMAGE)),
    row("gee predict nothing none", "nothing: not found", "none: not found", messages=2),
    row("gee predict studies", "studies: holds no images", "name image files, or folders that hold some"),
    row(f"gee predict {IMAGE} --model models:/a@b", "models:/a@b: there is no sqlite", "`gee run` makes it"),
    row(f"gee predict {IMAGE} --model {CHECKPOINT}", "network.safetensors: a checkpoint, not", "name models/export, an"),
    row("gee energy energy", "'energy': neither MODULE:NETWORK", "name a network as"),
    row("gee energy sad:X", "sad.py, line 2 raises", "fix it", write("sad.py", "\n1 / 0")),
    row("gee energy absent:X", "absent:X raises ModuleNotFoundError: No module named 'absent'", "of a module here"),
    row("gee energy one:X", "one:X returns a int, not a torch.nn.Module", "return", write("one.py", "def X():\n    return 1")),
    row(f"gee energy {CHECKPOINT} --steps 4", "makes its 2 steps itself", "leave out --steps"),
    row(f"gee energy {CHECKPOINT} --shape 3,8,8", "of images of 1 × 8 × 8 or another size", "of other images"),
    row(f"gee energy {CHECKPOINT} --shape 3,0", "--shape '3,0': not whole numbers above 0", "--shape 3,32,32"),
]


@pytest.mark.parametrize("case", STAGES + RUN + COMMANDS, ids=str)
def test_it_is_refused_before_any_work(case: Case, refuses):
    refuses(case)


@pytest.mark.slow  # a process of its own: MLflow keeps the stream that it first saw
def test_an_unusable_tracking_server_stops_no_stage_and_leaks_no_secret(project):
    env = {"PYTHONPATH": str(ROOT), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "GEE_TRACKING": "on"}
    env |= {"MLFLOW_TRACKING_URI": "http://user:sesame@127.0.0.1:1"}
    env |= dict.fromkeys(("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "PREFECT_API_KEY"), "sesame")
    command = [sys.executable, "-m", "pipelines.evaluate"]
    done = subprocess.run(command, cwd=project, env=os.environ | env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((project / "reports/evaluate/metrics.json").read_text())["test_accuracy"] > 0
    assert not [path for path in project.rglob("*") if path.is_file() and b"sesame" in path.read_bytes()]

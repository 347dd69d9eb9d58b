"""The commands of README and of the tutorials, in a copy of the project, page by page in the order in which they stand."""

import re
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from benchmarks.project_copy import change_params
from tests.project_copy import commit
from tests.project_copy import run as run_in
from tests.recordings import make_recordings

PAGES = ["README.md", *(f"docs/tutorials/{name}.md" for name in ("first-run", "compare-candidates", "use-the-model"))]
PAGES += [f"docs/tutorials/{name}.md" for name in ("measure-a-network", "your-images", "your-events", "your-network")]
NOT_HERE = (
    ("pip install", "tests/test_packaging.py builds and installs"),
    ("python3 -m venv", "the Makefile does so"),
    (".venv/bin/python", "the Makefile does so"),
    ("source", "the copy has no .venv"),
    ("make", "the first run of the copy; .ci/run"),
    ("gee ui", "tests/test_servers.py"),
    ("mlflow models serve", "a server: tests/pipelines/tracking/test_mlflow_models.py"),
    ("curl", "asks that server"),
    ("printf", "tests/pipelines/reporting/test_model_readme.py"),
    ("mlflow models predict", "reads what printf wrote"),
    ("gee preset use nmnist", "6 minutes"),
    ("gee run --preset nmnist", "6 minutes"),
)
ELSEWHERE = {
    "docs/tutorials/your-events.md": (
        "gee run",
        "the preset nmnist; tests/pipelines/test_events.py runs the stages on recordings",
    ),
    "docs/tutorials/your-network.md": ("gee run", "tests/pipelines/test_pipeline.py runs this example"),
}
"""How commands begin that are not run here, and why."""
SHORTER = {
    "docs/tutorials/first-run.md": ("network.n_genes=16", "network.n_genes=16 --stage evolve"),
    "docs/tutorials/your-images.md": ("dvc repro", "dvc repro prepare"),
}
"""Commands that stop after a stage, since tests/pipelines/test_pipeline.py runs all stages."""
MODULE = """
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn


def network(channels):
    head = layer.AdaptiveAvgPool2d(1), layer.Flatten(), layer.Linear(8, 10)
    net = nn.Sequential(layer.Conv2d(channels, 8, 3), neuron.LIFNode(), *head)
    functional.set_step_mode(net, "m")
    return net


def MyVGG():
    return network(3)


MyNetwork = MyVGG


def trained():
    return network(1)
"""


def parts(page: str) -> list[tuple[str, str]]:
    """(kind, text) of the code of a page, in order; the kind of indented code is `shell`."""
    found = re.findall(r"^```(\w+)\n(.*?)^```|(?:(?<=\n\n)|\A)((?: {4}(?!\|)[^\n]*\n)+)", page, re.DOTALL | re.MULTILINE)
    return [("shell", indented) if indented else (kind, text) for kind, text, indented in found]


def commands(shell: str) -> list[str]:
    """The lines of indented code without comments; none where it is no shell: a tree of files, or filters of MLflow."""
    lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in shell.splitlines()]
    programs = r"(gee|dvc|make|pip|python3|mlflow|source|export|printf|curl|cp|\.venv/\S+) ?"
    return [line for line in lines if re.match(programs, line)]


def run(folder: Path, *command: str) -> str:
    """The output of a command that has to succeed, with the code of ``folder`` as if it were installed there."""
    return run_in(folder, *command, PYTHONPATH=str(folder), GEE_TRACKING="on")


@pytest.fixture(scope="module")
def project(finished_project, tmp_path_factory) -> Path:
    """A copy of the finished project, with pictures and modules as a reader has them."""
    folder = shutil.copytree(finished_project, tmp_path_factory.mktemp("tutorials") / "gee", symlinks=True)
    rng = np.random.default_rng(0)
    names = [f"my-images/{part}/{kind}/{i}.png" for part in ("train", "test") for kind in ("cat", "dog") for i in range(12)]
    for i, name in enumerate(["image.png", "photo.png", "photos/a.png", "photos/b.png", *names]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64 + i % 3, 64, 3), np.uint8)).save(folder / name)
    make_recordings(folder / "my-recordings")
    for name in ("my_net", "my_module"):
        (folder / f"{name}.py").write_text(MODULE)
    (folder / ".git/info/exclude").write_text("my-*\nmy_*\nphoto*\nimage.png\nagain.safetensors\ncopy\n")
    commit(folder, "A run")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs_in_a_copy_of_the_project(page, project, root):
    from mlflow import MlflowClient

    run(project, "git", "checkout", "-q", "-f", ".")
    run(project, sys.executable, "-m", "dvc", "checkout", "-q", "-f")
    script, elsewhere = "", tuple(start for start, _ in (*NOT_HERE, *filter(None, [ELSEWHERE.get(page)])))
    for (kind, text), (following, _) in pairwise([*parts((root / page).read_text(encoding="utf-8")), ("end", "")]):
        if kind == "python" and page in (PAGES[2], PAGES[3]):  # the others run in test_pages.py and test_readme.py
            script += text
            if following != "python":
                run(project, sys.executable, "-c", script.replace("/tmp/copy", str(project / "copy")))
        elif kind == "yaml":
            prepare = YAML(typ="safe").load(text)["prepare"]
            size = prepare["image_size"] and 16
            change_params(project, {"prepare": prepare | {"path": Path(prepare["path"]).name, "image_size": size}})
            if "events" in prepare:
                events = prepare["events"] | {"sensor": [12, 12]}
                preset = {"network": {"T": events["frames"]}, "robustness": {"domain": "events"}}  # as nmnist has it
                change_params(project, preset | {"prepare": {"events": events}})
        elif kind == "shell" and "tags." in text:
            client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
            gee = client.get_experiment_by_name("gee").experiment_id
            evolve = client.search_runs([gee], "tags.`gee.stage` = 'evolve'", order_by=["start_time ASC"])[0]
            # the first, which is the fixture's: first-run.md runs the variant analytic, which has no candidates
            for line in text.replace("<id of a run of evolve>", evolve.info.run_id).splitlines():
                found = client.search_runs([gee], line.strip())
                assert found or "metrics" in line or "generation" in line, line  # so small a search has no such candidates
        elif kind == "shell":
            if own := re.search(r"section network: +name: (\S+) +and +width: (\S+)", text):
                change_params(project, {"network": {"name": own[1], "width": float(own[2])}})
            for command in commands(text):
                if not command.startswith(elsewhere):
                    command = command.replace(" NAME", " $(dvc exp list --name-only | head -1)")
                    command = command.replace(*SHORTER.get(page, ("", "")))
                    run(project, "bash", "-c", command.replace("/tmp/", f"{project}/"))

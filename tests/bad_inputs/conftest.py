"""A project in which everything is right, to be spoilt, and what every refusal has to look like."""

import hashlib
import importlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import onnx
import pytest
from onnx import helper
from PIL import Image
from ruamel.yaml import YAML

from gee_core.checkpoint import save
from gee_core.config import PrepareConfig
from gee_core.data.meta import load_meta
from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.export.model_card import CARD_ENTRY
from pipelines import cli, prepare, train
from pipelines.commands.prediction import open_model, predict
from pipelines.inputs.genotype_file import load_genotype
from pipelines.inputs.loading import load_trained, prepared_images
from pipelines.inputs.measured import Evaluation, read_metrics
from pipelines.inputs.search import load_start
from pipelines.project.params import load_params
from pipelines.project.paths import check_links
from pipelines.runtime.input_errors import known_message
from pipelines.runtime.settings import Settings
from tests.bad_inputs.case import Case, write
from tests.pipelines.conftest import MEASURED, analytic_file, digits, make_params, own_sigterm, write_params  # noqa: F401 - fixtures
from tests.pipelines.studies.conftest import TINY_STUDY
from tests.pipelines.tracking.models import SIZE, write_exported
from tests.pipelines.train_cases import SIGMAS


def read_images(cfg: PrepareConfig) -> None:
    check_links(cfg)
    prepare.run(cfg, Path("out"))


READERS = {
    "load_params": load_params,
    "settings": Settings.read,
    "prepared": prepared_images,
    "checkpoint": lambda: load_trained(load_params(), load_meta(Path("data/prepared"))),
    "genotype": lambda: load_genotype(load_params()),
    "start": lambda: load_start(load_params()),
    "evaluation": lambda: read_metrics("evaluate", Evaluation),
    "images": lambda: read_images(load_params().prepare),
    "model": lambda: predict(Path(), [Path("images/test/cat/0.png")], open_model("models/export")),
    "genes": lambda: open_model("models/export/genes.safetensors"),
}
"""What reads a file for the stages, called in the project folder."""


@pytest.fixture(scope="session")
def good_project(tmp_path_factory, digits, make_params) -> Path:  # noqa: F811
    """Raw images, prepared digits, a genotype, a checkpoint, an ONNX model, what evaluate measured, presets and a study."""
    folder = tmp_path_factory.mktemp("good") / "project"
    shutil.copytree(digits, folder / "data/prepared")
    given, data = make_params(train={"epochs": 1, "warmup_epochs": 0}), load_prepared(digits)
    net, *_ = train.run(given, analytic_file(given), data, tmp_path_factory.mktemp("scratch"))
    study = io.StringIO()
    YAML().dump(TINY_STUDY, study)
    for path, text in {
        "dvc.yaml": "stages: {}\n",
        "data/raw/README": "",
        "models/evolve/genotype.json": json.dumps(SIGMAS.model_dump()),
        "models/train/README": "",
        "presets/other.yaml": "train: {epochs: 3}\n",
        "reports/evaluate/metrics.json": json.dumps(MEASURED),
        "studies/tiny.yaml": study.getvalue(),
    }.items():
        write(path, text)(folder)
    for name in ("params.yaml", "presets/digits.yaml"):
        write_params(folder / name, make_params())
    save(folder / "models/train/network.safetensors", net)
    write_images(folder / "images")
    write_model(folder / "models/export/network.onnx")
    return folder


def write_images(folder: Path) -> None:
    """Two classes of 8 x 8 images, six for training and two for testing each."""
    for split, count in (("train", 6), ("test", 2)):
        for k, name in enumerate(("cat", "dog")):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8), (20 * i, 100 * k, 7)).save(folder / split / name / f"{i}.png")


CARD = {"class_names": [str(k) for k in range(SIZE**2)], "in_channels": 1, "image_size": SIZE, "mean": [0.3], "std": [0.4]}


def write_model(path: Path, card: str = json.dumps(CARD)) -> None:
    """An ONNX model that answers with the pixels, as classes, with ``card`` in its metadata."""
    model = onnx.load(write_exported(path.parent))
    helper.set_model_props(model, {CARD_ENTRY: card})
    onnx.save(model, path)


@pytest.fixture
def project(good_project, tmp_path, monkeypatch) -> Iterator[Path]:
    """A copy of it, and the current folder."""
    folder = tmp_path / "project"
    shutil.copytree(good_project, folder)
    monkeypatch.chdir(folder)
    for name in ("pipelines.stage", "pipelines.runtime.process_tree"):
        monkeypatch.setattr(f"{name}.exit_on_sigterm", lambda: None)  # the handler would outlive the test
        monkeypatch.setattr(f"{name}.die_with_parent", lambda: None)
    monkeypatch.setattr("pipelines.runtime.progress.FIRST_SECONDS", 600.0)  # on a busy machine a line of progress would come
    monkeypatch.setenv("GEE_WORKERS", "1")
    monkeypatch.setenv("GEE_LOADER_WORKERS", "0")
    with patch.dict(os.environ):  # `gee` puts its Python first in PATH, `gee energy` sets GEE_COMPILE
        yield folder


@pytest.fixture
def run(project, monkeypatch, capsys) -> Callable[[str], tuple[int, str, str]]:
    """Runs a stage or a `gee …` command line in this process; its exit code, output and messages."""

    def start(command: str) -> tuple[int, str, str]:
        code = 0
        try:
            if command.startswith("gee"):
                monkeypatch.setattr(sys, "argv", ["gee", *command.split()[1:]])
                cli.main()
            else:
                importlib.import_module(f"pipelines.{command}").main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return start


@pytest.fixture
def refuses(project, run, monkeypatch) -> Callable[[Case], str]:
    """Sees to it that a case ends as every bad input has to; its messages."""

    def check(case: Case) -> str:
        for change in case.change:
            change(project)
        for name, value in case.env.items():
            monkeypatch.setenv(name, value)
        if case.run in READERS:
            with pytest.raises(InputError) as caught:
                READERS[case.run]()
            message = known_message(caught.value)
            assert case.says in message and case.remedy in message
            assert len(message.splitlines()) == case.messages and max(map(len, message.splitlines())) < 700
            return message
        before = hashes(project)
        code, out, err = run(case.run)
        assert "Traceback" not in err
        assert code == 2, err
        after = hashes(project)
        assert {path: after.get(path) for path in before} == before, "a file was changed or removed"
        assert not {path for path in after if path not in before and not path.startswith(".scratch")}, "a file was written"
        assert out == ""
        text = " ".join(err.replace("│", " ").split())  # Typer's own messages stand in a box
        assert case.says in text
        assert case.remedy in text
        if not case.run.startswith("gee") or err.startswith("gee: error: "):  # else Typer's own: a usage line and a box
            name = case.run.split()[0]
            lines = err.splitlines()
            assert all(line.startswith(f"{name}: error: ") for line in lines), err
            assert len(lines) == case.messages, err
            assert max(map(len, lines)) < 700
        return err

    return check


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below ``folder``, by path."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

"""A project folder with a tiny preset, a tiny study and 64 prepared digits."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from pipelines.studies.plan import CellResult, Request
from pipelines.studies.steps import ROWS_OF
from pipelines.studies.study import run_study

TINY_STUDY = {
    "title": "A tiny study",
    "preset": "digits",
    "seeds": 2,
    "grid": {
        "encoding": [{"label": "genetic", "set": {"evolve.variant": "baseline"}}, {"label": "unencoded", "control": "plain"}]
    },
    "metrics": ["test_accuracy", "parameters", "parameter_ratio"],
    "plots": [{"kind": "bars", "group": ["encoding"]}],
    "published": [{"columns": {"encoding": "genetic"}, "metrics": {"test_accuracy": 0.9}, "source": "Table 2"}],
}


@pytest.fixture
def project(tmp_path, digits, make_params, monkeypatch) -> Path:
    """The project folder, and the current one."""
    tiny = make_params(
        evolve={"n_generations": 1, "population_size": 3}, train={"epochs": 2}, network={"width": 1 / 8}
    ).model_dump()
    write_yaml(tmp_path / "presets/digits.yaml", tiny)
    write_yaml(tmp_path / "presets/other.yaml", {"train": {"epochs": 3}})
    (tmp_path / "studies").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipelines.studies.study.prepare_images", lambda cfg: digits)
    return tmp_path


@pytest.fixture
def write_study(project) -> Callable[..., str]:
    """Writes studies/tiny.yaml, with the given keys changed (None: left out); returns its name."""

    def write(**changes) -> str:
        values = {key: value for key, value in (TINY_STUDY | changes).items() if value is not None}
        write_yaml(project / "studies/tiny.yaml", values)
        return "tiny"

    return write


@pytest.fixture
def run(write_study) -> Callable[..., str]:
    """Runs the tiny study with the given keys changed; returns its table."""

    def go(seeds=None, only=None, force=False, keep=False, jobs=1, **changes):
        request = Request(write_study(**changes), seeds=seeds, only=only or {})
        return run_study(request, jobs, force, keep)

    return go


def measure(cell) -> CellResult:
    """In place of `run_cell`: numbers that depend on the seed."""
    accuracy = 0.5 + 0.1 * cell.params.base.seed
    noise = [{"domain": "image", "r": r, "seed": draw, "accuracy": accuracy - r * draw} for r in (0.0, 0.5) for draw in (0, 1)]
    path = cell.folder / ROWS_OF.format("noise")
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(noise).to_csv(path, index=False)
    return CellResult("ok", {"test_accuracy": accuracy, "parameters": 100})


@pytest.fixture
def quick(monkeypatch) -> list[str]:
    """Cells are not trained; the names of those that ran."""
    names: list[str] = []
    monkeypatch.setattr("pipelines.studies.study.run_cell", lambda cell: names.append(cell.name) or measure(cell))
    return names


def write_yaml(path: Path, values: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(values, file)

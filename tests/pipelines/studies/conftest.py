"""A project folder with a tiny preset, a tiny study and 64 prepared digits."""

from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipelines.studies.cell import Request
from pipelines.studies.kendall import OF_SCORE
from pipelines.studies.study import run_study

TINY_STUDY = {
    "title": "A tiny study",
    "preset": "digits",
    "seeds": 2,
    "grid": {
        "encoding": [
            {"label": "genetic", "set": {"evolve.variant": "baseline"}},
            {"label": "unencoded", "control": "plain"},
        ],
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
def run(write_study) -> Callable[..., list]:
    """Runs the tiny study with the given keys changed; returns its tables."""

    def go(seeds=None, only=None, force=False, keep=False, jobs=1, **changes):
        request = Request(write_study(**changes), seeds=seeds, only=only or {})
        return run_study(request, jobs, force, keep)

    return go


def measure(cell) -> dict:
    """In place of `run_cell`: numbers that depend on seed, candidate and training."""
    seed, genetic = cell.params.base.seed, cell.params.network.n_genes is not None
    accuracy = 0.5 + 0.1 * seed + 0.01 * (cell.candidate or 0) + 0.001 * (cell.training or 0)
    score = {} if cell.candidate is None else dict.fromkeys(OF_SCORE, 1.0 - accuracy)
    metrics = {"test_accuracy": accuracy, "parameters": 100, "best_proxy_accuracy": 0.5} | score
    hardware = [{"domain": "weights", "strength": s, "draw": 0, "accuracy": accuracy - s / 9} for s in (0.0, 1.0)]
    hardware += [{"domain": "genes", "strength": 0.5, "draw": 0, "accuracy": accuracy}] if genetic else []
    layers = [{"layer": "stem", "energy_mj": 1.0, "decode_energy_mj": 0.0, "input_rate": 0.5}]
    noise = [{"domain": "image", "r": r, "seed": 0, "accuracy": accuracy - r / 9} for r in (0.0, 0.5)]
    return {"status": "ok", "metrics": metrics, "layers": layers, "noise": noise, "hardware": hardware}


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

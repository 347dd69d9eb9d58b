"""A prepared data set of 64 digits, parameters that fit it, and a project folder with both."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from sklearn.datasets import load_digits

from gee_core.checkpoint import save
from gee_core.compute import Compute
from gee_core.config import Params
from gee_core.data.images import PackedImages
from gee_core.data.prepared import Source, load_prepared, write_prepared
from gee_core.evolution.candidate import Candidate, Score
from gee_core.evolution.loop import Record
from gee_core.evolution.proxy import score
from gee_core.genome.genotype import configured_genotype
from gee_core.storage.atomic_files import write_json
from pipelines import cli, evolve, export, train
from pipelines.evolve import genotype_file
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.inputs.loading import load_trained
from pipelines.inputs.measured import Evaluation, Searched
from pipelines.project.params import load_params
from tests.made_once import made_once
from tests.project_copy import ROOT
from tests.short_stages import _initialised, short_stages  # noqa: F401 - fixtures

CPU = Compute.of("cpu", "fp32")

TINY = {
    "base": {"device": "cpu", "precision": "fp32"},
    "network": {"name": "vgg16", "width": 1 / 16, "n_genes": 6, "neuron": "lif", "levels": None, "T": 2},
    "evolve": {
        "variant": "ste",
        "genes": ["wiring"],
        "budget": None,
        "rescore": None,
        "n_generations": 2,
        "population_size": 3,
        "proxy": {"epochs": 1},
    },
    "train": {"epochs": 4, "batch_size": 16, "warmup_epochs": 1, "include_holdout": True},
    "evaluate": {"batch_size": 10, "plain": False},
    "robustness": {"strengths": [0.0, 0.5], "n_seeds": 2, "batch_size": 10, "hardware": None},
    "export": {"register_model": False, "genes": None},
}


@pytest.fixture(autouse=True)
def own_sigterm() -> Iterator[None]:
    """Each test starts with SIGTERM's default: forked children inherit the handler that a stage sets, and would survive."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def make_params() -> Callable[..., Params]:
    """The committed params.yaml made tiny, with the given sections changed."""
    committed = load_params(ROOT / "presets/digits.yaml").model_dump()

    def make(**sections: dict) -> Params:
        values = {name: keys | TINY.get(name, {}) | sections.get(name, {}) for name, keys in committed.items()}
        return Params.model_validate(values)

    return make


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """data/prepared of 64 training digits (16 of them held out) and 24 test digits."""
    bunch = load_digits()
    pixels = torch.from_numpy(bunch.images * 255 / 16).to(torch.uint8)[:, None]
    labels = torch.from_numpy(bunch.target).long()
    folder = tmp_path_factory.mktemp("digits") / "prepared"
    train, test = (PackedImages(pixels[part].clone(), labels[part].clone()) for part in (slice(64), slice(64, 88)))
    source = Source("scikit-learn digits", tuple(map(str, range(10))), train, test, torch.arange(0, 64, 4))
    write_prepared(folder, "digits", source, mean=(0.3,), std=(0.38,))
    return folder


@pytest.fixture
def meta(digits):
    """What the data set says of itself."""
    return load_prepared(digits).meta


@pytest.fixture
def in_project(tmp_path, digits, make_params, monkeypatch) -> Callable[..., Path]:
    """Makes a project folder with the digits and a params.yaml, and goes there."""

    def make(**sections: dict) -> Path:
        shutil.copytree(digits, tmp_path / "data/prepared")
        write_params(tmp_path / "params.yaml", make_params(**sections))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("pipelines.stage.exit_on_sigterm", lambda: None)  # the handler would outlive the test
        monkeypatch.setattr("pipelines.stage.die_with_parent", lambda: None)
        monkeypatch.setenv("GEE_WORKERS", "1")
        return tmp_path

    return make


@pytest.fixture
def bare_project(tmp_path, monkeypatch) -> Path:
    """A project folder with presets, without results, and the current one."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "presets", folder / "presets")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def main(monkeypatch, capsys) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs the command `gee` in this process; its exit code, output and messages."""
    monkeypatch.chdir(Path.cwd())  # `gee` goes to the project folder

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gee", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capsys.readouterr()

    with patch.dict(os.environ):  # `gee` puts its Python first in PATH, `gee energy` sets GEE_COMPILE
        yield run


@pytest.fixture
def no_figures(monkeypatch) -> None:
    """Reports with empty figures, for tests of the text."""
    of_run = ("training", "energy", "noise", "confusion", "hardware", "raster", "genes")
    of_search = ("fitness", "gene_effects")
    monkeypatch.setattr("pipelines.reporting.page.draw", lambda *_: dict.fromkeys(of_run + of_search, "<svg></svg>"))


class HereAndNow:
    """``Workers`` in this process, so that a test is quick and can count."""

    scored: list[tuple[int, int]]
    """Generation and index of what was scored, by all of them."""
    score = staticmethod(score)

    def __init__(self, task):
        self.task = task

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def score_all(self, candidates):
        for candidate in candidates:
            HereAndNow.scored.append((candidate.generation, candidate.index))
            yield candidate, HereAndNow.score(self.task, candidate), 0.25


@pytest.fixture
def here_and_now(monkeypatch) -> type[HereAndNow]:
    """Candidates are scored in this process; what was scored so far."""
    HereAndNow.scored = []
    monkeypatch.setattr(evolve, "Workers", HereAndNow)
    return HereAndNow


def write_params(path: Path, params: Params) -> None:
    """``params`` as YAML."""
    from ruamel.yaml import YAML

    yaml = YAML()
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(params.model_dump(), file)


def analytic_file(params: Params) -> GenotypeFile:
    """A genotype.json with the analytic wiring."""
    candidate = Candidate(0, 0, 717064236, configured_genotype(params.network))
    return genotype_file(params, Record(candidate, Score(1.0, 1.0, 0.0, 0.0, 0.0, 0.5), 1.0, 1.0, 0.0))


def put_trained(folder: Path, trained: Path) -> None:
    """What evolve and train leave in a project ``folder``: the network of ``trained``, and a genotype.json of it."""
    shutil.copytree(trained.parent, folder / "models/train")
    params = load_params(folder / "params.yaml")
    plain = params.network.n_genes is None
    genotype = genotype_file(params, None) if plain else analytic_file(params)
    write_json(folder / "models/evolve/genotype.json", genotype.model_dump())


@pytest.fixture(scope="session")
def trained(digits, make_params, tmp_path_factory) -> Path:
    """The files of models/train: a network of ``make_params()``, trained until it knows some digits."""

    def make(folder: Path) -> None:
        params = make_params(train={"epochs": 40, "lr": 0.02})
        net, *_ = train.run(params, analytic_file(params), load_prepared(digits), tmp_path_factory.mktemp("scratch"))
        save(folder / "network/network.safetensors", net)

    return made_once(tmp_path_factory, "trained", make) / "network/network.safetensors"


@pytest.fixture(scope="module")
def net(digits, make_params, trained):
    """That network, in evaluation mode."""
    return load_trained(make_params(), load_prepared(digits).meta, trained)


EVALUATION = Evaluation(
    test_accuracy=0.75,
    test_loss=0.8,
    parameters=5000,
    plain_parameters=60_000,
    energy_mj=0.002,
    energy_with_decoding_mj=0.05,
    energy_of_sums_mj=0.0,
    spikes_per_image=1234.5,
    firing_rate=0.125,
    footprint=20_480,
    footprint_decoded=240_480,
    connection_sparsity=0.0,
    activation_sparsity=0.875,
    effective_macs=36_864.0,
    effective_acs=250_000.5,
    dense_synops=2_000_000.0,
)
SEARCHED = Searched(n_candidates=6, best_fitness=0.25, start_fitness=0.5, fresh_draws=3)
MEASURED = EVALUATION.model_dump()
"""A reports/evaluate/metrics.json."""


@pytest.fixture(scope="session")
def exported(digits, make_params, trained, tmp_path_factory) -> Path:
    """The ONNX file of that network, and the other files of models/export beside it."""

    def make(folder: Path) -> None:
        params, data = make_params(), load_prepared(digits)
        net = load_trained(params, data.meta, trained)
        export.write_all(folder / "export", params, net, data, SEARCHED, EVALUATION)

    return made_once(tmp_path_factory, "exported", make) / "export/network.onnx"

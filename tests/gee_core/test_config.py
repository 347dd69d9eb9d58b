"""The models behind params.yaml: no defaults, frozen, documented, ranges as their docstrings say."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from gee_core.config import Params, PrepareConfig
from gee_core.config.datasets import DATASETS, Dataset
from gee_core.config.evolve import Variant
from gee_core.config.network import SURROGATE_NAMES
from gee_core.data.folders import is_in_files
from gee_core.snn import lif as lif_module
from gee_core.snn.lif import LIF
from gee_core.zoo import NETWORKS

PRESET = Path(__file__).resolve().parents[2] / "presets/digits.yaml"
SECTIONS = {name: field.annotation for name, field in Params.model_fields.items()}


DEFECTS = {"n_draws": 1, "max_images": None}


def values() -> dict:
    return YAML(typ="safe").load(PRESET.read_text(encoding="utf-8"))


def with_value(section, key, value) -> Params:
    changed = values()
    changed[section][key] = value
    return Params(**changed)


def test_every_field_is_required_and_documented():
    for model in SECTIONS.values():
        assert all(field.is_required() and field.description for field in model.model_fields.values())
    with pytest.raises(ValidationError, match="Extra inputs"):
        with_value("base", "unheard_of", 1)
    with pytest.raises(ValidationError, match="finite number"):
        with_value("train", "lr", float("inf"))


# section.key: (accepted edges, refused neighbours)
EDGES = {
    "base.seed": ([0, 2**31 - 1], [-1, 2**31]),
    "base.device": (["auto", "cpu", "cuda", "cuda:1"], ["gpu", "cuda:", "cpu:0", "mps"]),
    "network.name": ([*NETWORKS, "networks.my_vgg:MyVGG"], ["resnet50", "networks/my.py:A", "networks.my:"]),
    "network.block": ([None], ["pre", "post", "both"]),  # of cifarnet, which has no blocks
    "network.T": ([1, 64], [0, 65]),
    "network.tau": ([1.001, 100], [1]),
    "network.surrogate": (list(SURROGATE_NAMES), ["step"]),
    "prepare.dataset": ([*get_args(Dataset)[:4], "folder"], ["mnist", "nmnist", "events"]),  # those need frames
    "prepare.name": ([None], ["", ".x", "a/b", "x" * 65, "birds"]),  # digits have a name
    "prepare.holdout": ([0.01, 0.99], [0, 1]),
    "evolve.variant": (list(get_args(Variant)), ["evolve"]),
    "evolve.population_size": ([None, 3], [1]),  # three are scored again
    "evolve.bound": ([1.01], [1]),
    "evolve.start": (["analytic", "unit", "a/genotype.json"], ["", "\n", None]),
    "evolve.rescore": ([None], [{"top": 1}, {"top": 0, "draws": 1}]),
    "evolve.halving": ([None, 1, 2.5], [0.9]),
    "evolve.norm_images": ([None, 32], [31]),
    "train.cooldown": ([None, 0.01, 1], [0, 1.1]),
    "train.lr_min": ([0, 0.004], [0.00404]),
    "train.warmup_epochs": ([0, 29.5], [30]),
    "train.quantise": ([None], [{"format": "int4", "epochs": 31}, {"format": "fp32", "epochs": 1}]),
    "train.label_smoothing": ([0, 0.99], [1]),
    "train.erasing": ([0, 1], [-0.1, 1.1]),
    "train.noise": ([0, 1], [-0.1, 11]),
    "train.whiten": ([True], [None]),
    "robustness.strengths": ([[0.0, 0.5], [0.0, 0.5, 2.0]], [[], [0.0, 0.4], [0.5], [0.0, 0.5, 0.5], [0.0, 0.6, 0.5]]),
    "robustness.hardware": (
        [None],
        [DEFECTS, DEFECTS | {"lost_step": [5]}, DEFECTS | {"lost_step": [2, 1]}],
    ),
    "export.promote_metric": (["test_accuracy", "energy_mj"], ["plain_parameters", ""]),
}


@pytest.mark.parametrize("name", EDGES)
def test_the_edges_of_a_range_are_accepted_and_what_lies_beyond_is_refused(name):
    section, key = name.split(".")
    accepted, refused = EDGES[name]
    for value in accepted:
        assert getattr(getattr(with_value(section, key, value), section), key) == value
    for value in refused:
        with pytest.raises(ValidationError, match=key):
            with_value(section, key, value)


@pytest.mark.parametrize(
    ("section", "changes", "problem"),
    [
        ("network", {"n_genes": None}, r"set evolve\.variant to analytic"),
        ("evolve", {"variant": "random", "start": "old.json"}, r"start = 'old\.json' has no use for"),
        ("prepare", {"dataset": "folder", "name": "digits"}, "is the name of another data set"),
        ("prepare", {"dataset": "digits", "image_size": 8, "stream": True}, "digits does not come as image files"),
        ("prepare", {"dataset": "folder", "image_size": None, "stream": True}, "images need one size"),
        ("base", {"device": "mps"}, r"mps is not supported \(its fused optimiser is untested.*set it to cpu"),
    ],
)
def test_settings_that_exclude_one_another_are_refused(section, changes, problem):
    changed = values()
    changed[section] |= changes
    with pytest.raises(ValidationError, match=problem):
        Params(**changed)


def test_lif_gives_exactly_the_arguments_of_the_neuron_with_their_values():
    network = with_value("network", "tau", 3.5).network
    arguments = network.lif()
    assert set(arguments) == set(inspect.signature(LIF.__init__).parameters) - {"self"}
    lif = LIF(**arguments)
    assert (lif.T, lif.tau, lif.v_threshold, lif.decay_input) == (4, 3.5, 0.5, True)
    assert type(lif.surrogate_function) is lif_module.SURROGATES[network.surrogate]


def test_the_tables_without_torch_have_the_names_of_the_others():
    assert tuple(lif_module.SURROGATES) == SURROGATE_NAMES
    assert get_args(Dataset) == (*DATASETS, "folder", "events")


def test_importing_the_parameters_loads_neither_torch_nor_numpy():
    command = [sys.executable, "-X", "importtime", "-c", "import gee_core.config"]
    timings = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in timings.splitlines()}
    assert "gee_core" in loaded
    assert not {"torch", "numpy"} & loaded


@pytest.mark.parametrize(
    ("dataset", "name", "path", "expected"),
    [
        ("cifar10", None, "/images/birds", "cifar10"),
        ("folder", None, "../My birds: v1.2", "My-birds-v1.2"),
        ("folder", None, "/home/me/project/data/raw/", "folder"),
        ("folder", None, ".", "folder"),
        ("folder", None, "x" * 100, "x" * 64),
        ("folder", None, "/images/cifar10", "folder-cifar10"),
        ("folder", "birds.v2", "data/raw", "birds.v2"),
    ],
)
def test_images_are_called_by_their_name_or_that_of_their_folder(dataset, name, path, expected):
    prepare = values()["prepare"] | {"dataset": dataset, "name": name, "path": path}
    assert PrepareConfig(**prepare).data_name == expected


@pytest.mark.parametrize(
    ("dataset", "reads_path", "is_downloadable", "in_files"),
    [
        ("digits", False, False, [False, False]),
        ("fashion_mnist", True, True, [False, False]),
        ("cifar10", True, True, [False, True]),
        ("folder", True, False, [True, True]),
    ],
)
def test_where_images_come_from(tmp_path, dataset, reads_path, is_downloadable, in_files):
    prepare = PrepareConfig(**values()["prepare"] | {"dataset": dataset, "path": str(tmp_path)})
    assert (prepare.reads_path, prepare.is_downloadable) == (reads_path, is_downloadable)
    before = is_in_files(prepare)
    (tmp_path / "train").mkdir()
    assert [before, is_in_files(prepare)] == in_files

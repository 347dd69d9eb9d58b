"""The models behind params.yaml: no defaults, all documented; tests/test_params.py has what they refuse."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from gee_core.config import NetworkConfig, Params, PrepareConfig, SearchConfig
from gee_core.config.prepare import DATASETS, Dataset
from gee_core.data.folders import is_in_files
from gee_core.snn import lif as lif_module
from gee_core.snn.lif import LIF, make_neurons

PRESET = Path(__file__).resolve().parents[2] / "presets/digits.yaml"
SECTIONS = {name: field.annotation for name, field in Params.model_fields.items()}


def values() -> dict[str, dict[str, Any]]:
    return YAML(typ="safe").load(PRESET.read_text(encoding="utf-8"))


def test_every_field_is_documented_and_required_but_for_those_of_a_search():
    for model in SECTIONS.values():
        required = {name for name, field in model.model_fields.items() if field.is_required()}
        assert required | SearchConfig.model_fields.keys() >= model.model_fields.keys()
        assert all(field.description for field in model.model_fields.values())


def test_neurons_have_the_values_of_the_section():
    network = NetworkConfig(**values()["network"] | {"neuron": "lif", "levels": None, "T": 4, "tau": 3.5})
    lif = make_neurons(network)
    assert type(lif) is LIF
    assert (lif.T, lif.tau, lif.v_threshold, lif.decay_input) == (4, 3.5, 0.5, True)
    assert type(lif.surrogate_function) is lif_module.SURROGATES[network.surrogate]
    ilif = make_neurons(NetworkConfig(**values()["network"] | {"neuron": "ilif", "levels": 3, "T": 4, "tau": 3.5}))
    assert (ilif.T, ilif.levels, ilif.tau, ilif.v_threshold, ilif.detach_reset) == (4, 3, 3.5, 0.5, True)


def test_the_tables_without_torch_have_the_names_of_the_others():
    assert tuple(lif_module.SURROGATES) == get_args(NetworkConfig.model_fields["surrogate"].annotation)
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

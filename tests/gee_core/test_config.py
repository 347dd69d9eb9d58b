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
from gee_core.config.datasets import Dataset
from gee_core.config.evolve import Variant
from gee_core.config.network import SURROGATES
from gee_core.snn import lif as lif_module
from gee_core.snn.lif import LIF
from gee_core.zoo import NETWORKS

PRESET = Path(__file__).resolve().parents[2] / "presets/digits.yaml"
SECTIONS = {name: field.annotation for name, field in Params.model_fields.items()}
FIELDS = [(section, key) for section, model in SECTIONS.items() for key in model.model_fields]


def values() -> dict:
    return YAML(typ="safe").load(PRESET.read_text(encoding="utf-8"))


def with_value(section, key, value) -> Params:
    changed = values()
    changed[section][key] = value
    return Params(**changed)


@pytest.mark.parametrize(("section", "key"), FIELDS)
def test_every_field_is_required_and_documented(section, key):
    field = SECTIONS[section].model_fields[key]
    assert field.is_required()
    assert field.description
    incomplete = values()
    del incomplete[section][key]
    with pytest.raises(ValidationError, match="Field required"):
        Params(**incomplete)


@pytest.mark.parametrize(("section", "key"), FIELDS)
def test_no_field_accepts_infinity_a_mapping_or_an_object(section, key):
    for value in (float("inf"), float("-inf"), float("nan"), {"unheard_of": 1}, object()):
        with pytest.raises(ValidationError):
            with_value(section, key, value)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_is_frozen_and_refuses_unknown_keys(section):
    model = getattr(Params(**values()), section)
    key = next(iter(SECTIONS[section].model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(model, key, getattr(model, key))
    with pytest.raises(ValidationError, match="Extra inputs"):
        with_value(section, "unheard_of", 1)


# section.key: (accepted edges, refused neighbours)
EDGES = {
    "base.seed": ([0, 2**31 - 1], [-1, 2**31]),
    "base.device": (["auto", "cpu", "cuda", "cuda:1"], ["", "gpu", "cuda:", "cuda:x", "cpu:0", "mps"]),
    "base.precision": (["auto", "fp32", "bf16"], ["fp16", ""]),
    "network.name": ([*NETWORKS, "networks.my_vgg:MyVGG"], ["resnet50", "ResNet19", "", "networks/my.py:A", "networks.my:"]),
    "network.block": ([None], ["pre", "post", "both"]),  # of cifarnet, which has no blocks
    "network.pool": (["max", "avg"], ["min", None]),
    "network.width": ([0.01, 4], [0, -1, 4.01]),
    "network.n_genes": ([1, 500], [0, -1, 2.0]),
    "network.T": ([1, 64], [0, 65]),
    "network.tau": ([1.001, 100], [1, 0.5, 0]),
    "network.v_threshold": ([0.01], [0, -0.5]),
    "network.v_reset": ([None, 0, -0.3], ["0"]),
    "network.surrogate": (list(SURROGATES), ["step"]),
    "network.surrogate_alpha": ([0.1], [0, -2]),
    "prepare.dataset": (list(get_args(Dataset)), ["mnist"]),
    "prepare.name": ([None], ["", ".x", "a/b", "x" * 65, 7]),
    "prepare.image_size": ([None, 4, 1024], [3, 1025]),
    "prepare.max_train_images": ([None, 1], [0]),
    "prepare.test_share": ([0.01, 0.99], [0, 1]),
    "prepare.holdout": ([0.01, 0.99], [0, 1]),
    "evolve.variant": (list(get_args(Variant)), ["evolve"]),
    "evolve.population_size": ([None, 2], [1, 0]),
    "evolve.sigma": ([0.01, 5], [0, 5.1]),
    "evolve.bound": ([1.01], [1, 0.5]),
    "evolve.start": (["analytic", "unit", "a/genotype.json"], ["", 3, None]),
    "evolve.genotype": (["per_layer", "shared", "shape"], ["both", None]),
    "evolve.rescore": ([None], [3, {"top": 1}, {"top": 0, "draws": 1}]),
    "evolve.halving": ([None, 1, 2.5], [0.9, 0, -2]),
    "evolve.a": ([0, 3.5], [-0.1]),
    "evolve.tau_lambda": ([0.1], [0]),
    "evolve.lr_X": ([1e-6, 1, 10], [0, -1]),
    "evolve.lr_O": ([1e-6, 1, 10], [0, -1]),
    "train.lr_X": ([1e-6, 1, 10], [0, -1]),
    "train.lr_O": ([1e-6, 1, 10], [0, -1]),
    "train.cooldown": ([None, 0.01, 1], [0, 1.1, -0.5, "linear"]),
    "train.label_smoothing": ([0, 0.99], [1, -0.1]),
    "train.optimizer": (["adamw", "sgd"], ["adam"]),
    "train.momentum": ([0, 0.99], [1, -0.1]),
    "train.loss": (["ce", "tet"], ["mse"]),
    "train.tet_lambda": ([0, 1], [-0.1, 1.1]),
    "train.randaugment": ([0, 30], [-1, 31]),
    "train.erasing": ([0, 1], [-0.1, 1.1]),
    "train.wiring_seed": (["candidate", "fresh"], ["other"]),
    "train.init_from": ([None, "a/network.safetensors"], ["", 3]),
    "robustness.strengths": (
        [[0.0, 0.5], [0.0, 0.5, 2.0]],
        [[], [0.0, 0.4], [0.5], [0.0, 0.5, 0.5], [0.0, 0.6, 0.5], [-0.1, 0.0, 0.5], [0.0, "0.5"]],
    ),
    "robustness.hardware": (
        [None],
        [3, {"n_draws": 1, "max_images": None}, {"max_images": None, "weights": [0.1]}, {"n_draws": 0, "max_images": None}],
    ),
    "export.opset": ([18], [17]),
    "export.genes": (["fp32", "bf16", "int8", "int4", None], ["int2", "", 8, True]),
    "export.promote_metric": (["test_accuracy", "energy_mj"], ["plain_parameters", "", None]),
    "report.title": (["x", "x" * 200], ["", "x" * 201]),
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


HARDWARE = {
    "n_draws": ([1], [0, 1.5]),
    "max_images": ([None, 1], [0]),
    "weights": ([None, [0], [0.0, 3.5]], [[], [-0.1], [0.2, 0.1], [0.1, 0.1], ["0.1"], 0.1]),
    "threshold": ([[0.4]], [[-0.4]]),
    "dropped": ([[0, 1]], [[1.1], [-0.1]]),
    "gene_bits": ([[0, 1]], [[2]]),
    "lost_step": ([[0, 4]], [[0, 5], [1.5], [-1]]),  # of T = 4
}


@pytest.mark.parametrize("key", HARDWARE)
def test_the_edges_of_a_defect_of_hardware_are_accepted_and_what_lies_beyond_is_refused(key):
    accepted, refused = HARDWARE[key]
    for value in accepted:
        hardware = with_value("robustness", "hardware", values()["robustness"]["hardware"] | {key: value}).robustness.hardware
        assert getattr(hardware, key) == value
        assert (key in hardware.strengths()) == (isinstance(value, list))
    for value in refused:
        with pytest.raises(ValidationError, match=key):
            with_value("robustness", "hardware", values()["robustness"]["hardware"] | {key: value})


@pytest.mark.parametrize(("epochs", "warmup", "fits"), [(5, 4, True), (5, 5, False), (5, 6, False), (1, 0, True)])
def test_warm_up_ends_before_training_does(epochs, warmup, fits):
    changed = values()
    changed["train"] |= {"epochs": epochs, "warmup_epochs": warmup}
    if fits:
        assert Params(**changed).train.warmup_epochs == warmup
    else:
        with pytest.raises(ValidationError, match=f"warmup_epochs = {warmup} must be less than epochs = {epochs}"):
            Params(**changed)


@pytest.mark.parametrize(
    ("quantise", "problem"),
    [
        ({"format": "int4", "epochs": 5}, None),
        ({"format": "int8", "epochs": 1}, None),
        (None, None),
        ({"format": "int4", "epochs": 6}, r"quantise\.epochs = 6 must not be greater than epochs = 5"),
        ({"format": "int4", "epochs": 0}, "greater than or equal to 1"),
        ({"format": "fp32", "epochs": 1}, "'int8' or 'int4'"),
        ({"format": "int4"}, "Field required"),
        ({"format": "int4", "epochs": 1, "bits": 4}, "Extra inputs"),
    ],
    ids=str,
)
def test_the_epochs_with_rounded_genes_are_among_those_of_training(quantise, problem):
    changed = values()
    changed["train"] |= {"epochs": 5, "warmup_epochs": 1, "quantise": quantise}
    if problem is None:
        assert Params(**changed).model_dump()["train"]["quantise"] == quantise
    else:
        with pytest.raises(ValidationError, match=problem):
            Params(**changed)


@pytest.mark.parametrize("variant", get_args(Variant))
def test_a_plain_network_goes_with_the_variants_that_do_not_evolve(variant):
    changed = values()
    changed["network"]["n_genes"] = None
    changed["evolve"]["variant"] = variant
    if variant in ("random", "analytic"):
        assert Params(**changed).network.n_genes is None
    else:
        with pytest.raises(ValidationError, match=r"set evolve\.variant to analytic"):
            Params(**changed)


@pytest.mark.parametrize("variant", get_args(Variant))
def test_a_start_goes_with_the_variants_that_search(variant):
    changed = values()
    changed["evolve"] |= {"variant": variant, "start": "old.json"}
    if variant in ("random", "analytic"):
        with pytest.raises(ValidationError, match=r"start = 'old\.json' has no use for"):
            Params(**changed)
    else:
        assert Params(**changed).evolve.start == "old.json"


def test_lif_gives_exactly_the_arguments_of_the_neuron_with_their_values():
    network = with_value("network", "tau", 3.5).network
    arguments = network.lif()
    assert set(arguments) == set(inspect.signature(LIF.__init__).parameters) - {"self"}
    lif = LIF(**arguments)
    assert (lif.T, lif.tau, lif.v_threshold, lif.decay_input) == (4, 3.5, 0.5, True)
    assert type(lif.surrogate_function) is lif_module.SURROGATES[network.surrogate]


def test_the_names_of_the_surrogates_are_those_of_the_neuron():
    assert tuple(lif_module.SURROGATES) == SURROGATES


def test_importing_the_parameters_loads_neither_torch_nor_numpy():
    command = [sys.executable, "-X", "importtime", "-c", "import gee_core.config"]
    timings = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in timings.splitlines()}
    assert "gee_core" in loaded
    assert not {"torch", "numpy"} & loaded


def test_mps_is_refused_with_the_reason():
    with pytest.raises(ValidationError, match=r"mps is not supported \(its fused optimiser is untested.*set it to cpu"):
        with_value("base", "device", "mps")


@pytest.mark.parametrize(
    ("dataset", "name", "path", "expected"),
    [
        ("digits", None, "data/raw", "digits"),
        ("cifar10", None, "/images/birds", "cifar10"),
        ("folder", None, "/images/birds/", "birds"),
        ("folder", None, "../My birds: v1.2", "My-birds-v1.2"),
        ("folder", None, "data/raw/birds", "birds"),
        ("folder", None, "data/raw", "folder"),
        ("folder", None, "/home/me/project/data/raw/", "folder"),
        ("folder", None, ".", "folder"),
        ("folder", None, "鳥", "folder"),
        ("folder", None, "x" * 100, "x" * 64),
        ("folder", None, "/images/cifar10", "folder-cifar10"),
        ("folder", "birds.v2", "data/raw", "birds.v2"),
    ],
)
def test_images_are_called_by_their_name_or_that_of_their_folder(dataset, name, path, expected):
    prepare = values()["prepare"] | {"dataset": dataset, "name": name, "path": path}
    assert PrepareConfig(**prepare).data_name == expected


@pytest.mark.parametrize(("dataset", "name"), [("digits", "birds"), ("digits", "digits"), ("folder", "digits")])
def test_a_name_is_given_to_folders_alone_and_not_taken(dataset, name):
    with pytest.raises(ValidationError, match="name"):
        PrepareConfig(**values()["prepare"] | {"dataset": dataset, "name": name})

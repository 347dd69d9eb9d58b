"""params.yaml and the variables GEE_*: the committed ones agree with their models, and what is wrong is refused by name.

The tables below are the only ones of bad values. Types and ranges of single fields are pydantic's own: a row shows each kind.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
from ruamel.yaml import YAML

from gee_core.config import SHARED, Params
from gee_core.config.genes import GENES, SETTINGS
from gee_core.config.params import check_settings
from gee_core.errors import InputError
from gee_core.genome.genotype import Genotype
from pipelines.project.params import check_params, load_params
from pipelines.runtime.settings import Settings
from tests.project_copy import ROOT

OF_SEVERAL_STAGES = {"base", "network"}


def read(name: str) -> dict[str, Any]:
    return YAML(typ="safe").load((ROOT / name).read_text(encoding="utf-8"))


DIGITS = read("presets/digits.yaml")


def test_the_committed_params_are_read_as_written_and_the_proxy_as_train_is():
    found, written = load_params(ROOT / "params.yaml").model_dump(exclude_unset=True), read("params.yaml")
    of_train = {name: written["train"][name] for name in SHARED}
    assert found["evolve"].pop("proxy") == of_train | written["evolve"].pop("proxy")
    assert found == written


def test_evolve_depends_on_those_settings_of_train_that_its_short_training_shares():
    params = read("dvc.yaml")["stages"]["evolve"]["params"]
    assert {key for key in params if key.startswith("train")} == {f"train.{name}" for name in SHARED}


WITHOUT_SECTION = {"check", "plain"}


def test_every_stage_depends_on_its_own_section_and_others_are_shared():
    stages = {name: stage["params"] for name, stage in read("dvc.yaml")["stages"].items()}
    assert (set(stages) - WITHOUT_SECTION) | OF_SEVERAL_STAGES == set(Params.model_fields)
    for stage, sections in stages.items():
        assert {key.partition(".")[0] for key in sections} <= set(Params.model_fields)
        assert stage in sections or stage in WITHOUT_SECTION


def numbers(schema: object, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number in a JSON schema, with its place there."""
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number"):
            yield place, schema
        for key, part in schema.items():
            yield from numbers(part, f"{place}.{key}")
    elif isinstance(schema, list):
        for part in schema:
            yield from numbers(part, place)


def test_every_number_has_a_least_and_a_greatest_value():
    schema = Params.model_json_schema()
    assert len(list(numbers(schema))) > 80
    unbounded = {place for place, number in numbers(schema) if not {"minimum", "exclusiveMinimum"} & number.keys()}
    assert unbounded == set()
    endless = {place for place, number in numbers(schema) if not {"maximum", "exclusiveMaximum"} & number.keys()}
    assert endless == set()


def test_every_gene_that_replaces_a_setting_stays_within_what_the_setting_may_be():
    for name in SETTINGS:
        gene = GENES[name]
        least, most = (1, gene.most) if gene.relative else (gene.low, gene.high)
        check_settings({name: int(least) if gene.integer else least})
        check_settings({name: most})
        with pytest.raises(ValueError, match=f"^{name} must be a number, got None$"):
            Genotype.of({name: None})
        with pytest.raises(ValueError, match=name):
            check_settings({name: gene.most + 1 if gene.relative else -1})


def changed(preset: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The values of a preset with other ones by key; a section that is None is left out."""
    values = copy.deepcopy(DIGITS)
    for section, keys in (read(f"presets/{preset}.yaml") if preset != "digits" else {}).items():
        values[section] |= keys
    for key, value in changes.items():
        section, dot, name = key.partition(".")
        if name.startswith("proxy."):
            values[section]["proxy"][name.removeprefix("proxy.")] = value
        elif dot:
            values[section][name] = value
        elif value is None:
            del values[section]
        else:
            values[key] = value
    return values


OWN = {"network.name": "networks.my:A"}
LIF = {"network.neuron": "lif", "network.levels": None, "network.T": 4, "evolve.genes": ["shape"]}
FINISH = {"levels": 8, "epochs": 2}
FOLDER = {"prepare.dataset": "folder"}
FRAMES = {"frames": 4, "split_by": "number", "clip": 15}
DEFECTS = {"n_draws": 1, "max_images": None}
NAMES = "choose one of cifarnet, vgg16, "

# What is changed in the preset digits, and what the message says after "params.yaml: "
BAD: list[tuple[dict[str, Any], str]] = [
    ({"base.sede": 1}, "base.sede is not a known key: did you mean seed?"),
    ({"report": None}, "report is missing: add it"),
    ({"evolve.rescore": {"top": 3}}, "evolve.rescore.draws is missing: add it"),
    ({"train.lr": math.inf}, "train.lr = inf: input should be a finite number"),
    ({"network.name": "resnet50"}, f"network.name = 'resnet50': unknown network: {NAMES}"),
    ({"network.block": "pre"}, "network.block = 'pre': cifarnet has no residual blocks: set it to null"),
    (LIF | {"network.levels": 4}, "network: levels = 4 is for neuron = ilif: set it to null"),
    ({"network.levels": None}, "network: neuron = ilif needs levels: set it to D, for instance 4"),
    (
        {"network.n_genes": None, "evolve.genes": ["shape", "lr"]},
        "network.n_genes = null is a plain network, evolve.genes = ['shape', 'lr'] searches beta of an encoded one: leave it",
    ),
    (
        {"network.n_genes": None, "evolve.genes": ["tilt"], "evolve.variant": "ste"},
        "network.n_genes = null is a plain network, evolve.variant = ste rewards the entropy of O, which it has not: set var",
    ),
    (LIF | {"evolve.genes": ["levels"]}, "evolve.genes = ['levels'] searches levels, which neurons lif have not: leave it"),
    ({"evolve.genes": ["surrogate_alpha"]}, "evolve.genes = ['surrogate_alpha'] searches surrogate_alpha, which neurons ilif"),
    (
        {"network.n_genes": None, "evolve.variant": "analytic", "train.init_from": "inputs/a.safetensors"},
        "train.init_from = 'inputs/a.safetensors' is to be encoded, but network.n_genes = null asks for a plain network: set",
    ),
    ({"prepare.path": "a\0b"}, "prepare.path = 'a\\x00b': holds characters that cannot be printed: name another path"),
    ({"prepare.path": "data/${HOME}"}, "prepare.path = 'data/${HOME}': \"${\" stands for another value in DVC's experiments:"),
    (FOLDER | {"prepare.path": "data/raw/.."}, "prepare.path = data/raw/..: holds data/prepared, which the pipeline writes: m"),
    ({"prepare.name": "birds"}, "prepare: name = 'birds' is for images of dataset folder, digits has a name: set it to null"),
    (FOLDER | {"prepare.name": "cifar10"}, "prepare: name = 'cifar10' is the name of another data set: choose another name"),
    ({"prepare.stream": True}, "prepare: stream = true: digits does not come as image files: set it to false"),
    (FOLDER | {"prepare.stream": True}, "prepare: stream = true: images need one size: set image_size, the side in pixels"),
    ({"prepare.dataset": "nmnist"}, "prepare: events: dataset nmnist needs frames: set it to {frames: 4, split_by: number, cl"),
    ({"prepare.events": FRAMES}, "prepare: events: dataset digits has still images: set it to null, or dataset to nmnist or"),
    ({"evolve.genes": ["wirng"]}, "evolve.genes = ['wirng']: 'wirng' is no gene and no group: did you mean wiring?"),
    ({"evolve.genes": ["neurons", "tau"]}, "evolve.genes = ['neurons', 'tau']: 'tau' is named twice: leave out the gene or it"),
    ({"evolve.genes": ["wiring", "sigma_X"]}, "evolve.genes = ['wiring', 'sigma_X']: sigma_X sets all σ_l, which wiring or"),
    ({"evolve.budget": {"params": 100}}, "evolve.budget.params is not a known key: did you mean parameters?"),
    ({"evolve.budget": {"energy": 1.5}}, "evolve.budget.energy = 1.5: input should be less than or equal to 1"),
    ({"evolve.genes": ["width"]}, "evolve: genes = ['width']: with a budget the width is not drawn: add another gene, such as"),
    ({"evolve.variant": "analytic", "evolve.start": "unit"}, "evolve: start = 'unit' has no use for variant analytic, which d"),
    (
        {"evolve.genes": ["T"], "evolve.proxy.T_schedule": [1]},
        "evolve.proxy.T_schedule = [1] fixes the steps, evolve.genes = ['T'] search",
    ),
    ({"evolve.genes": ["T"], "train.T_schedule": [1]}, "train.T_schedule = [1] fixes the steps, evolve.genes = ['T'] searches"),
    (
        {"train.init_from": "inputs/a.safetensors"},
        "train.init_from = 'inputs/a.safetensors': training starts there, and evolve.variant = baseline searches among other",
    ),
    (
        LIF | {"evolve.genes": ["T"], "robustness.hardware": DEFECTS | {"lost_step": [0, 2]}},
        "robustness.hardware.lost_step = [0, 2]: evolve.genes = ['T'] searches T from 1 on: lower it to [0, 1]",
    ),
    ({"train.norm_images": 31}, "train: norm_images = 31 must be at least batch_size = 32"),
    ({"train.lr_min": 0.00404}, "train: lr_min = 0.00404 must not be greater than lr = 0.004"),
    ({"train.warmup_epochs": 30}, "train: warmup_epochs = 30 must be less than epochs = 30: set it to less, s"),
    ({"train.quantise": {"format": "int4", "epochs": 31}}, "train: quantise.epochs = 31 must not be greater than epochs = 30"),
    ({"train.finish": FINISH | {"epochs": 30}}, "train: finish.epochs = 30 must be less than epochs = 30"),
    ({"train.finish": FINISH}, "train.finish = {'levels': 8, 'epochs': 2}: with network.neuron = ilif integers stay to"),
    (OWN | {"train.finish": FINISH}, "train.finish = {'levels': 8, 'epochs': 2}: which batch norms come before which neurons"),
    ({"train.whiten": True, "train.init_from": "a"}, "train: whiten = true would replace the stem of init_from = 'a': set one"),
    (OWN | {"train.T_schedule": [2]}, "train.T_schedule = [2]: your own network runs the steps of its code: set it to null"),
    (
        OWN | {"evolve.proxy.T_schedule": [2]},
        "evolve.proxy.T_schedule = [2]: your own network runs the steps of its code: set it to null",
    ),
    (OWN | {"train.spike_penalty": 0.1}, "train.spike_penalty = 0.1: which layers of your own network read spikes is not know"),
    (OWN | {"evaluate.exit": [0.9]}, "evaluate.exit = [0.9]: your own network runs all its steps: set it to null"),
    ({"robustness.strengths": [0.0, 0.4]}, "robustness.strengths = [0.0, 0.4]: must contain 0.5, the strength at which the pa"),
    ({"robustness.strengths": [0.5]}, "robustness.strengths = [0.5]: must contain 0.0, no noise: add it"),
    (
        LIF | {"robustness.hardware": DEFECTS | {"lost_step": [5]}},
        "robustness.hardware.lost_step = [5]: network.T = 4 steps can be",
    ),
    ({"robustness.domain": "events"}, "robustness.domain = events: noise is added to images in the domains normalised and ima"),
    ({"report.title": "${oc.env:TOKEN}"}, "report.title = '${oc.env:TOKEN}': \"${\" stands for another value in DVC's experim"),
]

# The same for recordings, in the preset nmnist
BAD_OF_EVENTS: list[tuple[dict[str, Any], str]] = [
    ({"robustness.domain": "image"}, "robustness.domain = image: noise is added to recordings in the domain events: set it to"),
    ({"robustness.strengths": [0.0, 0.5, 1.5]}, "robustness.strengths = [0.0, 0.5, 1.5]: no more than all events can be lost:"),
    ({"network.T": 2}, "prepare.events.frames = 4: network.T = 2 steps see one each: set one to the other"),
    ({"train.T_schedule": [3]}, "train.T_schedule = [3]: 4 frames cannot be summed to 3: leave it out"),
    ({"evolve.proxy.T_schedule": [4, 3]}, "evolve.proxy.T_schedule = [4, 3]: 4 frames cannot be summed to 3: leave it out"),
    ({"train.randaugment": 5}, "train.randaugment = 5: it is for images, not for counts: set it to 0"),
    ({"train.noise": 0.5}, "train.noise = 0.5: Gaussian noise is for images, not for counts: set it to 0"),
    ({"evolve.genes": ["T"]}, "evolve.genes = ['T'] searches T, which is the number of frames of prepare.events: leave out T"),
]


@pytest.mark.parametrize(
    ("preset", "changes", "says"),
    [("digits", *case) for case in BAD] + [("nmnist", *case) for case in BAD_OF_EVENTS],
    ids=[says[:60] for _, says in BAD + BAD_OF_EVENTS],
)
def test_a_bad_value_is_one_line_with_its_key_its_value_and_a_remedy(preset, changes, says):
    with pytest.raises(InputError) as caught:
        check_params(changed(preset, changes), "params.yaml")
    message = str(caught.value)
    assert message.startswith(f"params.yaml: {says}")
    assert message.isprintable() and len(message) < 500


def test_params_of_an_earlier_version_are_refused_with_the_names_of_now():
    old = changed("digits", {"evolve.proxy_epochs": 2, "evolve.lr": 4e-3, "evolve.whiten": False, "prepare.split_seed": 0})
    with pytest.raises(InputError) as caught:
        check_params(old, "params.yaml")
    now = "evolve.proxy_epochs is now evolve.proxy.epochs, evolve.lr is now evolve.proxy.lr, evolve.whiten is now evolve.proxy."
    assert str(caught.value).startswith(f"params.yaml: of an earlier version: {now}")
    assert "prepare.split_seed is gone" in str(caught.value)


def test_every_bad_value_is_named_at_once_and_a_long_one_is_cut():
    with pytest.raises(InputError) as caught:
        check_params(changed("digits", {"base.seed": -1, "network.T": [1] * 50_000, "prepare.holdout": 1.0}), "params.yaml")
    lines = str(caught.value).split("\n")
    assert [line.split(" ")[1] for line in lines] == ["base.seed", "network.T", "prepare.holdout"]
    assert max(map(len, lines)) < 300


@pytest.mark.parametrize(
    "changes",
    [
        {"train.lr_min": 0.004, "train.warmup_epochs": 29.5, "train.norm_images": 32},
        {"train.quantise": {"format": "int4", "epochs": 30}, "base.device": "cuda:1"},
        {"evolve.genes": ["width"], "evolve.budget": None},
        {"evolve.genes": ["width"], "evolve.variant": "random"},  # it searches nothing
        {"evolve.variant": "random_search", "evolve.a": 0.0, "evolve.b": 0.0},
        {"evolve.genes": ["T"], "robustness.hardware": DEFECTS | {"lost_step": [0, 1]}},
        {"evolve.variant": "analytic", "train.init_from": "a", "train.T_schedule": [1]},
        LIF | {"robustness.hardware": DEFECTS | {"lost_step": [4]}, "prepare.path": "data"},  # digits read no folder
    ],
)
def test_what_lies_at_the_edge_is_accepted(changes):
    assert check_params(changed("digits", changes), "params.yaml") != check_params(DIGITS, "params.yaml")


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("GEE_WORKERS", "all", "all: input should be a valid integer"),
        ("GEE_ENGINE", "x" * 5000, "xx"),
        ("GEE_ENGINE", "disk", "disk: input should be 'serial', 'processes' or 'dask'; unset it for the default, processes"),
    ],
)
def test_a_bad_variable_is_one_line_with_its_name_its_value_and_the_default(variable, value, says, monkeypatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError) as caught:
        Settings.read()
    message = str(caught.value)
    assert message.startswith(f"{variable} = {says}") and "\n" not in message and len(message) < 200


def test_a_variable_is_read_without_spaces_and_a_blank_value_is_the_default(monkeypatch):
    default = Settings.read().loader_workers
    for value, read_as in (("3", 3), (" 2 ", 2), ("0", 0), ("4096", 4096), ("", default), (" ", default)):
        monkeypatch.setenv("GEE_LOADER_WORKERS", value)
        assert Settings.read().loader_workers == read_as

"""Which files an own network is made of, and whose code is imported when."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gee_core.config.known_networks import OWN, encoded_channels, kernel_positions
from gee_core.errors import InputError
from gee_core.gene_file import save_genes
from gee_core.model.network import build_network
from pipelines.commands.prediction import open_model
from pipelines.inputs.own_network import (
    check_network,
    network_digest,
    network_files,
    register_configured,
    register_if_configured,
    register_own_network,
)
from pipelines.project.params import load_params
from pipelines.studies.cell import Cell, cell_key
from tests.bad_inputs.test_own_network_cases import FILE, GOOD, NAME, forgotten  # noqa: F401 - a fixture


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes files of networks/ in a folder that is the current one, with ``GOOD`` in it."""
    monkeypatch.chdir(tmp_path)

    def write(**files):
        for name, text in files.items():
            path = Path("networks", name).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    write(my_net=GOOD)
    return write


def test_the_source_is_the_file_and_what_it_imports_from_the_folder_at_any_depth(write):
    write(
        my_net=f"import os, torch\nfrom networks import a\nfrom .b import c\n{GOOD}",
        a="import networks.sub.d\n",
        b="c = 1\n",
        f="from networks import my_net\nx = 1\n",
        unused="",
        **{"sub/__init__": "", "sub/d": "from . import e\nfrom ..f import x\n", "sub/e": ""},
    )
    names = ["a", "b", "f", "my_net", "sub/__init__", "sub/d", "sub/e"]
    assert network_files(NAME) == [Path("networks", f"{name}.py") for name in names]
    assert network_files("vgg16") == []
    register_own_network(NAME)


def test_the_digest_changes_with_the_source_and_with_nothing_else(write):
    write(my_net=f"from networks.parts import x\n{GOOD}", parts="x = 1\n")
    before = network_digest(NAME)
    write(another="x = 1\n")
    assert network_digest(NAME) == before
    write(parts="x = 2\n")
    after = network_digest(NAME)
    assert after != before
    assert len({after, network_digest("vgg16"), network_digest("cifarnet")}) == 3


def test_it_is_imported_from_the_project_alone_and_again_when_it_changed_in_the_same_second(write, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere/networks"
    elsewhere.mkdir(parents=True)
    (elsewhere / "__init__.py").write_text("raise SystemExit('of another package')\n")
    (elsewhere / "stranger.py").write_text(GOOD)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"networks/stranger\.py: no such file"):
        register_own_network("networks.stranger:Net")
    for channels in (6, 7, 8):
        write(my_net=GOOD.replace("4, 6, 3", f"4, {channels}, 3").replace("(6, num", f"({channels}, num"))
        register_own_network(NAME)
        assert encoded_channels(NAME) == [4, channels]
    assert kernel_positions(NAME) == 9
    assert not list(Path("networks").rglob("*.pyc"))
    assert "stranger" not in " ".join(sys.modules)


def test_an_unchanged_one_is_imported_once(write):
    register_own_network(NAME)
    first = OWN[NAME]
    register_own_network(NAME)
    assert OWN[NAME] is first


def test_a_worker_refuses_other_source_than_that_with_which_the_run_began(write):
    began = network_digest(NAME)
    register_own_network(NAME, digest=began)
    write(my_net=GOOD + "\n")
    with pytest.raises(InputError, match="is not that with which the run began: start the run again"):
        register_own_network(NAME, digest=began)


def test_a_checkpoint_imports_no_code_unless_params_name_it(in_project, make_params):
    folder = in_project()
    (folder / "networks").mkdir()
    (folder / FILE).write_text("raise SystemExit('imported')\n")
    (folder / "net.json").write_text(f'{{"network": {{"name": "{NAME}"}}}}')
    with pytest.raises(InputError, match=rf"no code is imported because a file names it: set network.name to {NAME}"):
        register_if_configured(Path("net.safetensors"), None)
    assert NAME not in OWN


def test_a_file_of_genes_predicts_where_params_name_its_network_and_imports_no_code_elsewhere(in_project):
    folder = in_project(network={"name": NAME})
    (folder / "networks").mkdir()
    (folder / FILE).write_text(GOOD)
    card = {"network": NAME, "n_genes": 3, "mean": [0.5], "std": [0.2], "image_size": 8, "in_channels": 1}
    register_own_network(NAME)
    net = build_network(NAME, 2, 1, 8, n_genes=3, T=2)
    save_genes("genes.safetensors", net, card=card | {"class_names": ["a", "b"]})
    OWN.clear()
    images = np.zeros((1, 1, 8, 8), np.uint8)
    assert open_model(Path("genes.safetensors")).answers(images)[0].shape == (1, 2)
    OWN.clear()
    (folder / "params.yaml").write_text((folder / "params.yaml").read_text().replace(NAME, "cifarnet"))
    (folder / FILE).write_text("raise SystemExit('imported')\n")
    with pytest.raises(InputError, match=rf"no code is imported because a file names it: set network.name to {NAME}"):
        open_model(Path("genes.safetensors"))


def test_the_network_is_tried_on_images_as_prepare_will_make_them(write, make_params):
    check_network(make_params(network={"name": NAME}))
    write(my_net=GOOD.replace("super()", "assert (in_channels, image_size) == (3, 12)\n        super()"))
    with pytest.raises(InputError, match="raises AssertionError"):
        check_network(make_params(network={"name": NAME}))
    check_network(make_params(network={"name": NAME}, prepare={"dataset": "cifar10", "image_size": 12}))
    for name in ("cat", "dog"):
        Path("images/train", name).mkdir(parents=True)
    for file, size in ((".0.png", 5), ("train/cat/0.png", 12), ("train/dog/0.png", 12)):  # hidden files are not read
        Image.new("RGB", (size, size)).save(Path("images", file))
    check_network(make_params(network={"name": NAME}, prepare={"dataset": "folder", "path": "images", "image_size": None}))


STEM = "nn.Conv2d(in_channels, 4"
"""What a network of a fixed number of channels has another number in."""


def write_folder(root, mode, n_classes=2):
    for k in range(n_classes):
        (root / f"class{k}").mkdir(parents=True, exist_ok=True)
        for i in range(4):
            Image.new(mode, (12, 12), 20 * i if mode == "L" else (20 * i, 0, 0)).save(root / f"class{k}/{i}.png")


@pytest.mark.parametrize(("mode", "channels", "other"), [("L", 1, 3), ("RGB", 3, 1)])
def test_the_classes_and_channels_of_a_folder_are_those_of_its_images(mode, channels, other, write, make_params):
    write_folder(Path("raw/mine"), mode)
    params = make_params(network={"name": NAME}, prepare={"dataset": "folder", "path": "raw/mine", "image_size": None})
    fixed = GOOD.replace("super()", "assert num_classes == 2 and image_size == 12\n        super()")
    write(my_net=fixed.replace(STEM, f"nn.Conv2d({channels}, 4"))
    check_network(params)
    write(my_net=fixed.replace(STEM, f"nn.Conv2d({other}, 4"))
    tried = rf"\(tried with 2 classes and {channels} channels?, by 8 of the images in raw/mine\)"
    with pytest.raises(InputError, match=rf"to have {other} channels, but got {channels} .*{tried}"):
        check_network(params)


def test_one_image_of_colour_makes_three_channels_and_an_image_that_cannot_be_read_is_named(write, make_params):
    write_folder(Path("raw"), "L")
    Image.new("RGB", (12, 12)).save("raw/class1/3.png")
    params = make_params(network={"name": NAME}, prepare={"dataset": "folder", "path": "raw", "image_size": None})
    write(my_net=GOOD.replace(STEM, "nn.Conv2d(3, 4"))
    check_network(params)
    Path("raw/class0/1.png").write_text("no image")
    with pytest.raises(InputError, match=r"^raw/class0/1.png: not a readable image \(none of"):
        check_network(params)


def test_a_stage_builds_it_for_the_prepared_images_whatever_the_folder_holds_now(in_project):
    folder = in_project(network={"name": NAME}, prepare={"dataset": "folder", "path": "images"})
    write_folder(folder / "images", "RGB")
    (folder / "networks").mkdir()
    (folder / FILE).write_text(GOOD.replace(STEM, "nn.Conv2d(1, 4"))
    register_configured(load_params())
    (folder / FILE).write_text(GOOD.replace(STEM, "nn.Conv2d(3, 4"))
    check_network(load_params())
    with pytest.raises(InputError, match=r"to have 3 channels, but got 1 .*: docs/reference/own-networks.md says what"):
        register_configured(load_params())


def test_the_result_of_a_cell_depends_on_the_source(write, make_params, digits):
    from gee_core.data.meta import load_meta

    params, keys = make_params(network={"name": NAME}), []
    for text in (GOOD, GOOD, GOOD + "\n"):
        write(my_net=text)
        keys.append(cell_key(Cell("grid", {}, params, ("evaluate",)), params, load_meta(digits)))
    assert keys[0] == keys[1] != keys[2]


def test_building_one_leaves_the_global_generator_alone_and_depends_on_the_seed_only(write):
    register_own_network(NAME)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (build_network(NAME, 10, 1, 8, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["net.head.weight"], other["net.head.weight"])

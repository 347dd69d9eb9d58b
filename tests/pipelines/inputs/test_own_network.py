"""Which files an own network is made of, whose code is imported when, and which stage says that it does not answer."""

import sys
from pathlib import Path

import numpy as np
import pytest

from gee_core.config.network import OWN, encoded_channels
from gee_core.data.meta import load_meta
from gee_core.errors import InputError
from gee_core.gene_file import save_genes
from gee_core.model.network import build_network
from pipelines import evolve, train
from pipelines.check import check_inputs
from pipelines.commands.prediction import open_model
from pipelines.inputs.own_network import (
    build_own_network,
    network_digest,
    network_files,
    register_if_configured,
    register_own_network,
)
from pipelines.project.params import load_params
from pipelines.project.paths import GENOTYPE, PREPARED
from pipelines.studies.plan import Cell, cell_key
from tests.bad_inputs.test_own_network_cases import FILE, GOOD, NAME, forget, forgotten  # noqa: F401 - a fixture


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


def test_all_python_files_of_the_folder_belong_to_an_own_network(write):
    write(my_net=f"from networks.parts import x\n{GOOD}", parts="x = 1\n", **{"sub/d": "from ..parts import x\n"})
    assert network_files(NAME) == [Path("networks", f"{name}.py") for name in ("my_net", "parts", "sub/d")]
    assert (network_files("vgg16"), network_digest("vgg16")) == ([], "")
    before = network_digest(NAME)
    Path("networks/README.md").write_text("of no effect")
    assert network_digest(NAME) == before
    write(parts="x = 2\n")
    assert network_digest(NAME) != before


def test_it_is_imported_from_the_project_alone(write, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere/networks"
    elsewhere.mkdir(parents=True)
    (elsewhere / "__init__.py").write_text("raise SystemExit('of another package')\n")
    (elsewhere / "stranger.py").write_text(GOOD)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"networks/stranger\.py: no such file"):
        register_own_network("networks.stranger:Net")
    register_own_network(NAME)
    assert encoded_channels(NAME) == [4, 6]
    first = OWN[NAME]
    register_own_network(NAME)  # unchanged
    assert OWN[NAME] is first
    assert "stranger" not in " ".join(sys.modules)


@pytest.mark.parametrize("began", [True, False], ids=["the run's", "its own"])
def test_a_worker_refuses_source_that_changed_since_the_run_or_itself_began(write, began):
    digest = network_digest(NAME) if began else ""
    if not began:  # by this worker
        register_own_network(NAME)
    write(my_net=GOOD + "\n")
    with pytest.raises(InputError, match="is not that with which the run, or a worker, began: start both again"):
        register_own_network(NAME, digest)


def test_a_checkpoint_imports_no_code_unless_params_name_it(in_project, make_params):
    folder = in_project()
    (folder / "networks").mkdir()
    (folder / FILE).write_text("raise SystemExit('imported')\n")
    (folder / "net.json").write_text(f'{{"network": {{"name": "{NAME}"}}}}')
    with pytest.raises(InputError, match=rf"no code is imported because a file names it: set network.name to {NAME}"):
        register_if_configured(Path("net.safetensors"), None)
    assert NAME not in OWN


def test_a_file_of_genes_imports_code_only_where_params_name_its_network(in_project):
    folder = in_project(network={"name": NAME})
    (folder / "networks").mkdir()
    (folder / FILE).write_text(GOOD)
    card = {"network": NAME, "n_genes": 3, "mean": [0.5], "std": [0.2], "image_size": 8, "in_channels": 1}
    register_own_network(NAME)
    net = build_network(NAME, 2, 1, 8, n_genes=3, T=2)
    save_genes("genes.safetensors", net, card=card | {"class_names": ["a", "b"]})
    OWN.clear()
    images = np.zeros((1, 1, 8, 8), np.uint8)
    assert open_model(Path("genes.safetensors")).classify(images)[0].shape == (1, 2)
    OWN.clear()
    (folder / "params.yaml").write_text((folder / "params.yaml").read_text().replace(NAME, "cifarnet"))
    (folder / FILE).write_text("raise SystemExit('imported')\n")
    with pytest.raises(InputError, match=rf"no code is imported because a file names it: set network.name to {NAME}"):
        open_model(Path("genes.safetensors"))


def test_check_looks_at_its_file_and_the_first_stage_builds_it(in_project):
    folder = in_project(network={"name": NAME})
    (folder / "data/raw").mkdir()
    with pytest.raises(InputError, match=r"networks/my_net\.py: no such file"):
        check_inputs(load_params())
    (folder / "networks").mkdir()
    (folder / FILE).write_text("raise SystemExit('imported')\n")
    check_inputs(load_params())
    wanted = "assert (num_classes, in_channels, image_size) == (10, 1, 8)\n        super()"
    (folder / FILE).write_text(GOOD.replace("super()", wanted).replace("nn.Conv2d(in_channels, 4", "nn.Conv2d(3, 4"))
    with pytest.raises(InputError, match=r"^network\.name = networks\.my_net:Net: for images .* to have 3 channels, but got 1"):
        build_own_network(load_params())
    forget()
    (folder / FILE).write_text(GOOD.replace("super()", wanted))
    build_own_network(load_params())
    assert encoded_channels(NAME, 1 / 16) == [4, 6]


def test_cells_and_resumed_work_depend_on_every_file_of_the_folder(in_project):
    folder = in_project(network={"name": NAME})
    for path, text in ((FILE, GOOD), (GENOTYPE, "{}")):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(text)
    params, keys = load_params(), []
    for text in ("x = 1\n", "x = 1\n", "x = 2\n"):
        (folder / "networks/parts.py").write_text(text)
        folders = evolve.scores_folder(params), train.train_folder(params)
        keys.append({cell_key(Cell({}, params, ("evaluate",)), params, load_meta(PREPARED)), *folders})
    assert keys[0] == keys[1] and not keys[1] & keys[2]

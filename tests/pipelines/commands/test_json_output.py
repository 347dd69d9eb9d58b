"""`--json` is JSON alone, also where a network of the user's own prints."""

import json
import shutil

import pytest
from PIL import Image

from gee_core.config.network import OWN
from gee_core.gene_file import save_genes
from gee_core.model.network import build_network
from pipelines import cli
from pipelines.inputs.own_network import register_own_network
from tests.bad_inputs.test_own_network_cases import FILE, GOOD, NAME, forget, forgotten  # noqa: F401 - a fixture

LOUD = "print('imported')\n" + GOOD.replace("super()", "print('built')\n        super()").replace(
    "return", "print('run')\n        return"
)
CARD = {"class_names": ["a", "b"], "in_channels": 1, "image_size": 8, "mean": [0.5], "std": [0.2]}


@pytest.fixture
def loud(in_project, monkeypatch):
    """A project whose own network prints when it is imported, built and run, with a file of its genes and an image."""
    folder = in_project(network={"name": NAME})
    (folder / "networks").mkdir()
    (folder / FILE).write_text(LOUD)
    monkeypatch.setattr(cli, "find_project", lambda: folder)
    register_own_network(NAME)
    save_genes("genes.safetensors", build_network(NAME, 2, 1, 8, n_genes=3, T=2), card=CARD)
    OWN.clear()
    forget()
    Image.new("L", (8, 8), 200).save("image.png")
    shutil.copy(FILE, "loud_net.py")


@pytest.mark.parametrize(
    "command",
    [
        f"count --network {NAME} --classes 2 --channels 1 --size 8 --genes 3",
        "predict image.png --model genes.safetensors",
        "energy genes.safetensors --n 1",
        "energy loud_net:Net --n 1 --steps 2 --shape 1,8,8",
    ],
    ids=["count", "predict", "energy of genes", "energy of a class"],
)
def test_what_a_network_prints_is_not_in_the_json(command, loud, main, capsys):
    capsys.readouterr()
    code, out, err = main(*command.split(), "--json")
    assert code == 0 and json.loads(out)
    assert {"imported", "built"} <= set(err.split())

"""The networks that come with GEE, at the command line and as the start of training."""

import sys

import pytest
import torch

from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.pretrained.files import list_pretrained, pretrained_card
from gee_core.pretrained.shipped import load_pretrained
from pipelines.inputs.init_from import encoded_network
from tests.pipelines.commands.test_predict import images as images  # a fixture
from tests.recordings import recording, save

NAME = "cifarnet.digits"


def test_they_are_listed_and_classify_in_a_folder_that_is_no_project_without_torch(main, images, digits, tmp_path, monkeypatch):
    labels = load_prepared(digits).test.labels[:8].tolist()
    monkeypatch.chdir(tmp_path)
    code, out, _ = main("pretrained")
    assert code == 0 and all(name in out for name in list_pretrained())
    monkeypatch.chdir(tmp_path)  # `gee` goes to the project folder
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it would fail
    code, out, err = main("predict", *images[:8], "--pretrained", NAME, "--top", 2)
    assert (code, err) == (0, "")
    lines = zip(images[:8], labels, out.splitlines(), strict=True)
    assert sum(line.startswith(f"{image}: {label} (") for image, label, line in lines) >= 7


def test_early_exit_and_recordings(main, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ", 1 step)" in main("predict", images[0], "--pretrained", NAME, "--exit", 0)[1]
    monkeypatch.chdir(tmp_path)  # `gee` goes to the project folder
    save(tmp_path / "saw.npy", recording(0))
    assert main("predict", "saw.npy", "--pretrained", "cifarnet.nmnist")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--pretrained", "cifarnet.digit"], "did you mean cifarnet.digits?"),
        (["--pretrained", NAME, "--model", "x.onnx"], "these are two networks: leave out one of the two"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, says, main, images):
    code, _, err = main("predict", images[0], *arguments)
    assert code == 2 and says in err


def shipped(make_params, **network):
    card = pretrained_card(NAME)
    of = load_pretrained(NAME).built_with
    section = {"name": "cifarnet", "width": of["width"], "n_genes": card.n_genes, "T": card.T} | network
    return make_params(network=section, train={"init_from": NAME, "epochs": 1, "warmup_epochs": 0})


def test_training_starts_at_a_shipped_network_with_a_new_classifier_for_other_classes(make_params, digits):
    data, known = load_prepared(digits), load_pretrained(NAME).state_dict()
    same, _ = encoded_network(shipped(make_params), data.meta)
    assert all(torch.equal(tensor, known[name]) for name, tensor in same.state_dict().items())
    fewer = data.meta.model_copy(update={"class_names": ("even", "odd"), "num_classes": 2})
    other, errors = encoded_network(shipped(make_params), fewer)
    changed = {name for name, tensor in other.state_dict().items() if not torch.equal(tensor.sum(), known[name].sum())}
    assert changed == {"head.0.weight", "head.0.bias"} and errors == {} and other.head[0].out_features == 2


def test_a_shipped_network_of_another_structure_is_refused(make_params, digits):
    meta = load_prepared(digits).meta
    with pytest.raises(
        InputError, match=rf"train.init_from = {NAME}: has network.n_genes \d+: set it so, or init_from to null"
    ):
        encoded_network(shipped(make_params, n_genes=5), meta)
    with pytest.raises(InputError, match="has images of 1 channels"):
        encoded_network(shipped(make_params), meta.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3, "in_channels": 3}))

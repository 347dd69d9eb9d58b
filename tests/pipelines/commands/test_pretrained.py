"""The networks that come with GEE as the start of training."""

import pytest
import torch

from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.pretrained.files import pretrained_card
from gee_core.pretrained.shipped import load_pretrained
from pipelines.inputs.init_from import encoded_network

NAME = "cifarnet.digits"


def shipped(make_params, **network):
    card = pretrained_card(NAME)
    width = load_pretrained(NAME).built_with.network.width
    section = {"name": "cifarnet", "width": width, "n_genes": card.n_genes, "T": card.T} | network
    train = {"init_from": NAME, "epochs": 1, "warmup_epochs": 0}
    return make_params(network=section, evolve={"variant": "analytic"}, train=train)


def test_training_starts_at_a_shipped_network_with_a_new_classifier(make_params, digits):
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
        InputError,
        match=rf"train.init_from = {NAME}: another network \(n_genes is \d+, not \d+\): set it so, or init_from to null",
    ):
        encoded_network(shipped(make_params, n_genes=5), meta)
    with pytest.raises(InputError, match="takes 1 channels, and the images have 3: save them so"):
        encoded_network(shipped(make_params), meta.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3, "in_channels": 3}))

"""Whose neurons have encodings, by layers.csv alone."""

import pandas as pd
import pytest
import torch

from gee_core.evaluation.energy import measure_energy
from gee_core.model.network import build_network
from pipelines.reporting.wiring import encoded_layers


@pytest.mark.parametrize(("name", "block"), [("cifarnet", None), ("vgg16", None), ("resnet18", "pre"), ("resnet18", "post")])
def test_the_layers_with_encodings_are_the_chain_of_the_network(name, block):
    net = build_network(name, 10, 3, 32, 4, 1 / 32, block=block).eval()
    layers = pd.DataFrame([layer.row(4.6, 0.9) for layer in measure_energy(net, [torch.rand(1, 3, 32, 32)]).layers])
    names = {module: name for name, module in net.named_modules()}
    assert encoded_layers(layers) == [names[conv] for conv in net.conv_chain()]

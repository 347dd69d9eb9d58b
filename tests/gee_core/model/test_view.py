"""A network that flattens by ``view``, which takes no channels-last tensor, runs wherever it ran before."""

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

import gee_core
from gee_core.data.augment import Normalise
from gee_core.model.network import build_network
from tests.gee_core.own_networks import VGG

NAME = "networks.my:View"
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class View(nn.Module):
    def __init__(self, num_classes: int = 5, in_channels: int = 3, image_size: int = 8):
        super().__init__()
        self.conv1, self.norm1, self.lif1 = nn.Conv2d(in_channels, 4, 3, padding=1), nn.BatchNorm2d(4), neuron.LIFNode()
        self.conv2, self.norm2, self.lif2 = nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), neuron.LIFNode()
        self.fc = nn.Linear(6 * image_size**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.lif2(self.norm2(self.conv2(self.lif1(self.norm1(self.conv1(x))))))
        return self.fc(y.view(len(y), -1))


@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: gee_core.encode(net, 3, example=X)], ids=["plain", "genetic"])
def test_as_it_is_encoded_decoded_and_measured(wrap):
    net = wrap(View())
    for copy in (net, gee_core.decode(net)):
        copy(X).sum().backward()
        functional.reset_net(copy)
    assert gee_core.measure_energy(net, X).energy_mj() > 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n_genes", [3, None], ids=["genetic", "plain"])
def test_as_an_own_network_on_images_as_the_pipeline_gives_them(n_genes, channels, own, tmp_path):
    gee_core.register_network(NAME, View)
    images = Normalise((0.5,) * channels, (0.2,) * channels)(torch.full((4, channels, 8, 8), 200, dtype=torch.uint8))
    net = build_network(NAME, 5, channels, 8, n_genes, T=2)
    net(images).sum().backward()
    gee_core.save(tmp_path / "network.safetensors", net)
    for copy in (gee_core.decode(net), gee_core.load(tmp_path / "network.safetensors")):
        assert torch.equal(copy.eval()(images), net.eval()(images))
    assert gee_core.measure_energy(net, images).energy_mj() > 0


def test_another_network_runs_channels_last(own):
    gee_core.register_network("networks.my:VGG", VGG)
    net = build_network("networks.my:VGG", 5, 3, 8, 3, T=2)
    assert all(conv.weight.is_contiguous(memory_format=torch.channels_last) for conv in net.conv_chain())

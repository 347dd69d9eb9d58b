"""What can be chained: SpikingJelly's layers, other kernels; and what is refused, with which words."""

import copy

import pytest
import torch
from spikingjelly.activation_based import functional, layer
from torch import nn
from torch.nn.utils import parametrize, prune

from gee_core.evaluation.energy import measure_energy
from gee_core.genome.chain import conv_chain, left_out
from gee_core.genome.encoding import decode, encode, genome_of
from tests.gee_core.own_networks import AllSteps, OneStep

G = 5


def spiking(step_mode):
    """A user's network in SpikingJelly's own layers."""
    torch.manual_seed(0)
    return (OneStep if step_mode == "s" else AllSteps)(3, 1, 6)


def spiking_images(step_mode):
    x = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0)) * 4
    return x if step_mode == "s" else x.repeat(4, 1, 1, 1, 1)


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_spikingjelly_network_is_encoded_trained_and_decoded(step_mode):
    net, x = spiking(step_mode), spiking_images(step_mode)
    chain = conv_chain(net, x)
    assert chain == [net.features[0], net.features[3], net.features[7]]
    functional.reset_net(net)
    net = encode(net, G, convs=chain)
    plain = decode(net)
    out, out_plain = net(x), plain(x)
    assert torch.equal(out, out_plain)
    assert out.shape == ((2, 3) if step_mode == "s" else (4, 2, 3))
    assert type(plain.features[3]) is layer.Conv2d
    out.square().sum().backward()
    assert all(gene.grad is not None for gene in [net.genome.O, *net.genome.encodings()])


def chain_of(*convs, wrap=True):
    body = nn.Sequential(*convs)
    return (nn.Sequential(body) if wrap else body), list(convs)


class Kinds(nn.Module):
    """Two convolutions that can be encoded, if the second runs, and six that cannot."""

    def __init__(self, second: bool):
        super().__init__()
        self.second = second
        self.stem, self.body = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, (1, 3), padding=(0, 1))
        self.depthwise, self.halves = nn.Conv2d(4, 4, 3, groups=4), layer.Conv2d(4, 4, 3, groups=2)
        self.point = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
        self.series, self.volume, self.up = nn.Conv1d(4, 4, 3), nn.Conv3d(4, 4, 3), nn.ConvTranspose2d(4, 4, 3)

    def forward(self, x):
        x = self.halves(self.depthwise(self.point(self.stem(x))))
        return self.body(x) if self.second else x


WHY = {"depthwise": "grouped", "halves": "grouped", "point.0": "of kernel 1x1", "point.1": "of kernel 1x1"}
WHY |= {"point.2": "of kernel 1x1", "point.3": "of kernel 1x1", "series": "1-d", "volume": "3-d", "up": "transposed"}
POINTS = "4 of kernel 1x1 (point.0, point.1, point.2, …), 1 1-d (series), 1 3-d (volume), 1 transposed (up)"


def test_what_is_left_out_is_named_with_the_reason():
    x = torch.zeros(1, 3, 8, 8)
    net = Kinds(second=True)
    assert conv_chain(net, x) == [net.stem, net.body]
    assert left_out(net, x) == WHY
    genome = encode(net, G, example=x).genome
    assert genome.left_out == WHY
    assert f"left out: 2 grouped (depthwise, halves), {POINTS}" in str(genome)
    assert "left out" not in str(encode(net, G, convs=[net.stem, net.body]).genome)  # as chosen
    assert left_out(Kinds(second=False), x) == {"body": "never executed"} | WHY


def test_a_chain_that_is_too_short_names_what_was_left_out():
    with pytest.raises(ValueError) as caught:
        encode(Kinds(second=False), G, example=torch.zeros(1, 3, 8, 8))
    assert str(caught.value) == (
        "a chain needs the stem and at least one more convolution, got 1 (stem); "
        f"left out: 1 never executed (body), 2 grouped (depthwise, halves), {POINTS}"
    )


TWO = chain_of(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
ERRORS = {
    "no genes": (TWO, 0, r"n_genes must be >= 1, got 0"),
    "another network's": ((nn.Sequential(nn.Conv2d(3, 4, 3)), TWO[1]), 2, "not part of"),
    "twice": ((TWO[0], [*TWO[1], TWO[1][1]]), 2, r"module '0\.1' is in the chain twice"),
    "no Conv2d": (chain_of(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 3)), 2, "is not a Conv2d"),
    "stem alone": (chain_of(nn.Conv2d(3, 4, 3)), 2, r"at least one more convolution, got 1"),
    "grouped": (chain_of(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=2)), 2, r"module '0\.1' has groups=2"),
    "channels": (
        chain_of(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3), nn.Conv2d(6, 8, 3)),
        2,
        r"breaks at '0\.2': it takes 6 channels, '0\.1' before it puts out 8",
    ),
    "kernels": (
        chain_of(nn.Conv2d(3, 4, 7), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 5)),
        2,
        r"module '0\.2' has kernel \(5, 5\), '0\.1' has \(3, 3\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_chain_that_cannot_be_encoded_is_refused_by_name_and_the_network_stays_plain(case):
    (net, convs), n_genes, message = ERRORS[case]
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=message):
        encode(net, n_genes, convs=convs)
    assert genome_of(net) is None
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(parametrize.is_parametrized(module) for module in net.modules())


def test_a_second_chain_of_an_encoded_network_is_refused_and_the_genes_of_the_first_stay():
    plain, convs = chain_of(*[nn.Conv2d(4, 4, 3, padding=1) for _ in range(6)])
    net = encode(plain, 2, convs=convs[:3])
    first = net.genome
    with pytest.raises(ValueError, match="one chain per network"):
        encode(net, 2, convs=list(net[0])[3:])
    assert genome_of(net) is first
    assert id(first.O) in {id(p) for p in net.parameters()}


def test_a_network_whose_neurons_hold_a_graph_is_refused_with_the_way_out():
    net, x = spiking("m").train(), spiking_images("m")
    net(x)  # the membranes now belong to an autograd graph, which cannot be copied
    with pytest.raises(ValueError, match=r"cannot be copied .*functional\.reset_net"):
        encode(net, G, example=x)
    functional.reset_net(net)
    assert genome_of(encode(net, G, example=x)) is not None


def test_a_weight_that_two_layers_share_is_refused():
    net = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3), nn.ConvTranspose2d(2, 2, 3))
    net[2].weight = net[1].weight
    with pytest.raises(
        ValueError, match=r"1\.weight and 2\.weight are one tensor and cannot be encoded: pass the others as convs"
    ):
        encode(net, G, example=torch.zeros(1, 2, 8, 8))


def test_a_network_whose_weight_is_computed_by_a_hook_says_how_to_make_it_permanent():
    net = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    prune.l1_unstructured(net[1], "weight", 0.5)
    with pytest.raises(ValueError, match=r"cannot be copied .*: 1\.weight holds .* is computed by a hook: .* permanent"):
        encode(net, G, example=torch.zeros(1, 2, 8, 8))
    prune.remove(net[1], "weight")
    assert genome_of(encode(net, G, example=torch.zeros(1, 2, 8, 8))) is not None


@pytest.mark.slow
@torch.no_grad()
def test_the_chain_and_the_operations_of_a_compiled_network_that_has_run_are_those_of_the_network():
    net = spiking("s").eval().to(memory_format=torch.channels_last)
    x = spiking_images("s").to(memory_format=torch.channels_last)
    expected = measure_energy(net, x)
    compiled = torch.compile(net, backend="eager")
    compiled(x)
    functional.reset_net(net)
    assert len(conv_chain(compiled, x)) == 3
    found = measure_energy(compiled, x)
    assert [layer.synops for layer in found.layers] == [layer.synops for layer in expected.layers]
    assert found.spikes_per_image == expected.spikes_per_image > 0

"""What can be chained: SpikingJelly's layers, other kernels; and what is refused, with which words."""

import copy

import pytest
import torch
from spikingjelly.activation_based import functional, layer
from torch import nn
from torch.nn.utils import parametrize, prune

from gee_core.errors import InputError
from gee_core.evaluation.energy import measure_energy
from gee_core.genome.chain import conv_chain, left_out
from gee_core.genome.encoding import decode, encode, genome_of
from tests.gee_core.genome.branches import branches, images
from tests.gee_core.own_networks import AllSteps, OneStep

G = 5


def spiking(step_mode):
    """A user's network in SpikingJelly's own layers, and its input."""
    torch.manual_seed(0)
    x = torch.rand(2, 1, 6, 6) * 4
    return ((OneStep if step_mode == "s" else AllSteps)(3, 1, 6)), (x if step_mode == "s" else x.repeat(4, 1, 1, 1, 1))


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_a_spikingjelly_network_is_encoded_trained_and_decoded(step_mode):
    net, x = spiking(step_mode)
    chain = conv_chain(net, x)
    assert chain == [net.features[0], net.features[3], net.features[7]]
    net = encode(net, G, convs=chain)
    plain = decode(net)
    out = net(x)
    assert torch.equal(out, plain(x)) and out.shape == ((2, 3) if step_mode == "s" else (4, 2, 3))
    assert type(plain.features[3]) is layer.Conv2d
    out.square().sum().backward()
    assert all(gene.grad is not None for gene in [net.genome.O, *net.genome.encodings()])


class Kinds(nn.Module):
    """Two convolutions that can be encoded, if the second runs, and six that cannot."""

    def __init__(self, second: bool):
        super().__init__()
        self.second = second
        self.stem, self.body = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, (1, 3), padding=(0, 1))
        self.depthwise, self.halves = nn.Conv2d(4, 4, 3, groups=4), layer.Conv2d(4, 4, 3, groups=2)
        self.point = nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(4)))
        self.series, self.volume, self.up = nn.Conv1d(4, 4, 3), nn.Conv3d(4, 4, 3), nn.ConvTranspose2d(4, 4, 3)

    def forward(self, x):
        x = self.halves(self.depthwise(self.point(self.stem(x))))
        return self.body(x) if self.second else x


WHY = {"depthwise": "grouped", "halves": "grouped"} | {f"point.{i}": "of kernel 1x1" for i in range(4)}
WHY |= {"series": "1-d", "volume": "3-d", "up": "transposed"}
LEFT_OUT = (
    "2 grouped (depthwise, halves), 4 of kernel 1x1 (point.0, point.1, point.2, …), "
    "1 1-d (series), 1 3-d (volume), 1 transposed (up)"
)


def test_the_chain_is_in_order_of_execution_and_others_are_named_with_the_reason():
    net, x = branches(encoded=False), torch.zeros(1, 3, 8, 8)
    assert conv_chain(net, images()) == net.chain()
    net = Kinds(second=True)
    assert conv_chain(net, x) == [net.stem, net.body]
    assert left_out(net, x) == WHY
    genome = encode(net, G, example=x).genome
    assert genome.left_out == WHY and f"left out: {LEFT_OUT}" in str(genome)
    assert "left out" not in str(encode(net, G, convs=[net.stem, net.body]).genome)  # as chosen
    assert left_out(Kinds(second=False), x) == {"body": "never executed"} | WHY
    with pytest.raises(ValueError) as caught:
        encode(Kinds(second=False), G, example=x)
    assert str(caught.value) == (
        f"a chain needs the stem and at least one more convolution, got 1 (stem); left out: 1 never executed (body), {LEFT_OUT}"
    )


def chain_of(*convs):
    return nn.Sequential(nn.Sequential(*convs)), list(convs)


def conv(i=4, j=4, kernel=3, **how):
    return nn.Conv2d(i, j, kernel, **how)


TWO = chain_of(conv(3), conv())
ERRORS = {
    "another network's": ((nn.Sequential(conv(3)), TWO[1]), 2, "is not part of the network: give convolutions of"),
    "twice": ((TWO[0], [*TWO[1], TWO[1][1]]), 2, r"0\.1 is in the chain twice: give convolutions of the network, each once"),
    "no Conv2d": (chain_of(conv(3), nn.ConvTranspose2d(4, 4, 3)), 2, r"0\.1 is ConvTranspose2d\(.*: only ungrouped Conv2d's"),
    "stem alone": (chain_of(conv(3)), 2, r"at least one more convolution, got 1"),
    "grouped": (chain_of(conv(3), conv(groups=2)), 2, r"0\.1 is Conv2d\(.*groups=2\): only ungrouped Conv2d's can be encoded"),
    "channels": (chain_of(conv(3), conv(4, 8), conv(6, 8)), 2, r"at '0\.2': it takes 6 channels, '0\.1' before it puts out 8"),
    "kernels": (chain_of(conv(3, 4, 7), conv(), conv(4, 4, 5)), 2, r"'0\.2' has kernel \(5, 5\), '0\.1' has \(3, 3\)"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_chain_that_cannot_be_encoded_is_refused_by_name(case):
    (net, convs), n_genes, message = ERRORS[case]
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=message):
        encode(net, n_genes, convs=convs)
    assert genome_of(net) is None
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(parametrize.is_parametrized(module) for module in net.modules())


def test_a_second_chain_of_an_encoded_network_is_refused():
    plain, convs = chain_of(*(conv(padding=1) for _ in range(6)))
    net = encode(plain, 2, convs=convs[:3])
    with pytest.raises(ValueError, match="one chain per network"):
        encode(net, 2, convs=list(net[0])[3:])
    with pytest.raises(ValueError, match=r"the weight of module '0\.1' is no parameter: decode the network if it is encoded"):
        encode(net, 2, convs=list(net[0])[:3])


def holds_a_graph():
    net, x = spiking("m")
    net(x)  # the membranes now belong to an autograd graph, which cannot be copied
    return net, x


def shares_a_weight():
    net = nn.Sequential(conv(2, 2), conv(2, 2), nn.ConvTranspose2d(2, 2, 3))
    net[2].weight = net[1].weight
    return net, torch.zeros(1, 2, 8, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (holds_a_graph, r"cannot be copied .*functional\.reset_net"),
        (shares_a_weight, r"1\.weight and 2\.weight are one tensor and cannot be encoded: pass the others as convs"),
    ],
)
def test_a_network_in_a_state_that_cannot_be_encoded_is_refused_with_the_way_out(make, message):
    net, x = make()
    with pytest.raises(ValueError, match=message):
        encode(net, G, example=x)


def test_what_is_no_network_and_a_wrapped_one_are_refused(monkeypatch):
    monkeypatch.setattr(nn.parallel.DistributedDataParallel, "__init__", lambda self, module: nn.Module.__init__(self))
    wrapped = nn.parallel.DistributedDataParallel(TWO[0])
    wrapped.module = TWO[0]
    with pytest.raises(InputError, match=r"wrapped in DistributedDataParallel: give its \.module, and wrap what comes back"):
        decode(wrapped)
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got <class"):
        decode(nn.Conv2d)


def test_an_encoded_weight_takes_no_value_in_silence():
    encoded = encode(TWO[0], 2, convs=TWO[1])
    for network in (encoded, copy.deepcopy(encoded)):
        before = network[0][1].weight.detach().clone()
        with pytest.raises(KeyError):
            network[0][1].weight = nn.Parameter(torch.ones_like(before))
        with pytest.raises((TypeError, KeyError)):
            prune.l1_unstructured(network[0][1], "weight", 0.5)
        assert torch.equal(network[0][1].weight, before) and before.any()


def test_genes_that_torch_removed_one_by_one_are_named_with_the_way_out():
    encoded = encode(chain_of(conv(), conv(), conv())[0], 2, example=torch.zeros(1, 4, 8, 8))
    parametrize.remove_parametrizations(encoded[0][1], "weight")
    for work in (lambda net: net[0][2].weight, decode):
        with pytest.raises(InputError, match=r"has no genes any more, .*: use gee_core\.decode, on the network as it was"):
            work(encoded)


@pytest.mark.slow
@torch.no_grad()
def test_the_chain_and_operations_of_a_compiled_network_are_those_of_the_network():
    net, x = spiking("s")
    net, x = net.eval().to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    expected = measure_energy(net, x)
    compiled = torch.compile(net, backend="eager")
    compiled(x)
    functional.reset_net(net)
    assert len(conv_chain(compiled, x)) == 3
    activity = measure_energy(compiled, x)
    assert [layer.synops for layer in activity.layers] == [layer.synops for layer in expected.layers]
    assert activity.spikes_per_image == expected.spikes_per_image > 0

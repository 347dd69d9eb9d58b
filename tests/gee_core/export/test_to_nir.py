"""The NIR graph of a network, read back by SpikingJelly, norse and snnTorch."""

import contextlib
import copy
import functools
import io

import h5py
import nir
import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from examples.spiking_vgg import SpikingVGG
from gee_core.errors import ExportError, InputError
from gee_core.evaluation.energy import record
from gee_core.export.to_nir import nir_agreement, read_nir, to_nir, write_nir
from gee_core.genome.encoding import encode, genome_of
from gee_core.model.base import SpikingNetwork
from gee_core.model.network import build_network
from gee_core.snn.lif import ILIF, LIF
from gee_core.zoo import NETWORKS, A, Dropout, NetworkSpec, P
from tests.gee_core.lively import awake

SIZE = 16
EQUAL = 0.999
"""Least share of equal spikes in a layer: a folded batch norm rounds differently, and some membrane is near the threshold."""

CASES = pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cifarnet", {"pool": "avg", "T": 1}),
        ("vgg16", {"decay_input": False, "tau": 1.7}),
        ("resnet19", {"block": "post", "decay_input": False, "v_reset": 0.1}),
        ("resnet18", {"block": "pre", "v_reset": 0.1}),
        ("mixed", {}),
        ("means", {}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else value,
)
PAPER = tuple(NETWORKS)


@pytest.fixture(autouse=True)
def mixed(monkeypatch):
    """Networks with every layer of the table: two pools in a row, an odd map in front of the head (28 → 14 → 7 → 3), or 2x2."""
    body = (8, P, P, Dropout(0.5), 8, A, 8)
    monkeypatch.setitem(NETWORKS, "mixed", NetworkSpec(8, body, hidden=16, flatten=True, kernel=5))
    monkeypatch.setitem(NETWORKS, "means", NetworkSpec(8, (8, A, A, 8, A), flatten=True))
    monkeypatch.setitem(NETWORKS, "after", NetworkSpec(2, (2, A, P, 2)))


def built(name, **settings):
    return build_network(name, 5, 1, 16, width=1 / 32, **settings)


def size_of(name):
    return 28 if name == "mixed" else SIZE


def images(n, seed=1, size=SIZE):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


@functools.cache
def lively(name, **settings) -> SpikingNetwork:
    """A network whose neurons fire in every layer, though not all of them."""
    net = build_network(name, 5, 3, size_of(name), 4, 1 / 16 if name in PAPER else 1, **{"T": 4} | settings)
    if len(net.head) > 1:
        net.head[0].weight.data.mul_(10)  # the hidden neurons see averages and would stay silent
    return awake(net, images(16, size=size_of(name)))


@CASES
def test_spikingjelly_fires_the_same_spikes_in_every_layer_and_predicts_the_same(name, settings):
    pool = "avg" if name in ("mixed", "vgg16") else "sum"
    net, x = lively(name, **settings), images(8, 2, size_of(name))
    recorded = record(net, x)
    assert all(0.001 < neurons.spikes.mean() < 0.999 for neurons in recorded.values())
    predictions, spikes, layers = nir_agreement(net, to_nir(net, 3, size_of(name), pool), x)
    assert predictions == 1
    assert set(layers) == set(recorded)
    assert min(spikes, *layers.values()) >= EQUAL


def run(simulator, x, T) -> torch.Tensor:
    """o (T, B, K) of a network that nirtorch has made."""
    outputs, state = [], None
    with torch.no_grad():
        for _ in range(T):
            o_BK, state = simulator(x, state)
            outputs.append(o_BK)
    return torch.stack(outputs)


def norse_of(graph):
    return pytest.importorskip("norse.torch").from_nir(graph, dt=1e-4)


def snntorch_of(graph):
    with contextlib.redirect_stdout(io.StringIO()):  # it announces that it rescales thresholds
        return pytest.importorskip("snntorch.import_nir").import_from_nir(graph)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
@pytest.mark.parametrize(
    ("reader", "name", "settings", "pool"),
    [
        (norse_of, "cifarnet", {}, "sum"),
        (norse_of, "vgg16", {"decay_input": False, "tau": 1.7}, "sum"),
        (snntorch_of, "cifarnet", {}, "sum"),
        (snntorch_of, "cifarnet", {}, "avg"),
        (snntorch_of, "resnet19", {"block": "pre"}, "sum"),
    ],
    ids=["norse", "norse, input not divided", "snnTorch", "snnTorch, avg", "snnTorch, ResNet"],
)
def test_other_simulators_put_out_the_same_at_every_step(reader, name, settings, pool):
    net, x = lively(name, **settings), images(8, 2)
    o_TBK = run(reader(to_nir(net, 3, SIZE, pool)), x, net.T)
    with torch.no_grad():
        torch.testing.assert_close(o_TBK, net(x), rtol=1e-4, atol=1e-4)
    assert (o_TBK[1:] - o_TBK[:-1]).abs().max() > 1e-3  # the steps differ, and so do the images
    assert (o_TBK[:, 0] - o_TBK[:, 1]).abs().max() > 1e-3


def test_neurons_fire_at_the_threshold_where_nir_says_above_it():
    """With weights of 1 and a batch norm of nothing, the first membrane is the threshold exactly."""
    net = build_network("cifarnet", 2, 1, 4, width=1 / 256, T=1)
    norm = net.stem.norm_lif.norm
    norm.eps = 0.0
    nn.init.dirac_(net.stem.conv.weight)
    net.eval()
    graph = to_nir(net, 1, 4)
    node = graph.nodes["stem.norm_lif.lif"]
    assert node.v_threshold.max() < 0.5 and np.float32(node.v_threshold.max()) == np.nextafter(np.float32(0.5), np.float32(0))
    x = torch.ones(1, 1, 4, 4)
    assert record(net, x)["stem.norm_lif.lif"].spikes.mean() == 1
    assert nir_agreement(net, graph, x)[2]["stem.norm_lif.lif"] == 1


def test_a_tiny_network_by_hand(monkeypatch):
    monkeypatch.setitem(NETWORKS, "tiny", NetworkSpec(1, (1, P)))
    net = build_network("tiny", 2, 1, 4, T=3, tau=4.0, v_threshold=0.8).eval()
    layer = net.body[0]
    for conv, norm, mean, var in (
        (net.stem.conv, net.stem.norm_lif.norm, 1.0, 4.0),
        (layer.conv, layer.norm_lif.norm, 2.0, 9.0),
    ):
        nn.init.constant_(conv.weight, 6.0)
        norm.eps = 0.0
        norm.running_mean.fill_(mean)
        norm.running_var.fill_(var)
        nn.init.constant_(norm.weight, 3.0)
        nn.init.constant_(norm.bias, 0.5)
    graph = to_nir(net, 1, 4)
    conv1, conv2 = graph.nodes["stem.conv"], graph.nodes["body.0.conv"]
    np.testing.assert_array_equal(conv1.weight, np.full((1, 1, 3, 3), 9, np.float32))  # 6 · 3/2
    np.testing.assert_array_equal(conv1.bias, np.float32([-1.0]))  # 0.5 - 1 · 3/2
    np.testing.assert_array_equal(conv2.weight, np.full((1, 1, 3, 3), 6, np.float32))  # 6 · 3/3
    np.testing.assert_array_equal(conv2.bias, np.float32([-1.5]))  # 0.5 - 2 · 3/3
    lif, pooled = graph.nodes["body.0.norm_lif.lif"], graph.nodes["body.1.lif"]
    assert {(n.tau.max(), n.r.max(), n.v_leak.max(), n.v_reset.max()) for n in (lif, pooled)} == {(4e-4, 1.0, 0.0, 0.0)}
    assert (lif.tau.shape, pooled.tau.shape) == ((1, 4, 4), (1, 2, 2))
    assert lif.v_threshold.max() == pytest.approx(0.8, abs=1e-6)
    assert pooled.v_threshold.max() == pytest.approx(0.5 / 4, abs=1e-6)  # half of what one spike adds in a step
    np.testing.assert_array_equal(graph.nodes["head.0"].weight, net.head[0].weight.detach().numpy() / 4)  # a mean of 2x2
    names = "input stem.conv stem.norm_lif.lif body.0.conv body.0.norm_lif.lif body.1 body.1.lif pool flatten head.0 output"
    types = "Input Conv2d LIF Conv2d LIF SumPool2d LIF SumPool2d Flatten Affine Output"
    assert {name: type(node).__name__ for name, node in graph.nodes.items()} == dict(
        zip(names.split(), types.split(), strict=True)
    )
    assert graph.edges == list(zip(list(graph.nodes)[:-1], list(graph.nodes)[1:], strict=True))  # a chain
    assert graph.metadata == {"T": 3, "dt": 1e-4}


def test_the_network_is_left_as_it_was():
    net = copy.deepcopy(lively("vgg16")).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    to_nir(net, 3, SIZE)
    assert net.training and genome_of(net) is not None
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())


class Own(nn.Module):
    """A network of the user's, for images (B, C, H, W) → (T, B, …)."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x.repeat(4, 1, 1, 1)).unflatten(0, (4, -1))


def own(*layers):
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), *layers)


def of_the_readme():
    layers = [layer for I in (3, 64, 64) for layer in (nn.Conv2d(I, 64, 3, padding=1), nn.BatchNorm2d(64), LIF(T=4))]
    net = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(64 * SIZE**2 // 4, 10, bias=False))
    return Own(encode(net, ratio=0.4, example=torch.rand(4, 3, SIZE, SIZE)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
@pytest.mark.parametrize("make", [of_the_readme, lambda: SpikingVGG(10, 3, SIZE, T=4, width=0.25)], ids=["chain", "VGG"])
def test_an_own_network_is_the_same_in_spikingjelly_and_in_snntorch(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = awake(make(), images(16))
    functional.reset_net(net)
    graph, x = to_nir(net, 3, SIZE), images(8, 2)
    predictions, spikes, layers = nir_agreement(net, graph, x)
    assert predictions == 1 and min(spikes, *layers.values()) >= EQUAL and graph.metadata["T"] == 4
    o_TBK = run(snntorch_of(graph), x, 4)
    with torch.no_grad():
        torch.testing.assert_close(o_TBK, net(x), rtol=1e-4, atol=1e-4)
    assert o_TBK.std(1).max() > 1e-3 and len(layers) >= 3  # the images differ
    with pytest.raises(ValueError, match=r"takes .*, and images \(1, 16, 16\) give \(.*\): name the in_channels"):
        to_nir(net, 1, SIZE)


@pytest.mark.parametrize("pool", ["sum", "avg"])
def test_integrate_and_fire_neurons_with_hard_reset_are_the_same_in_spikingjelly(pool):
    """An example takes the place of both sizes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = [layer.Conv2d(1, 8, 3, padding=1), neuron.IFNode(v_reset=0.1), layer.AvgPool2d(2)]
        net = nn.Sequential(*first, layer.Conv2d(8, 8, 3), neuron.IFNode(v_threshold=0.3), layer.Flatten(), layer.Linear(32, 5))
        x_TBCHW = torch.rand(4, 8, 1, 8, 8) * 3
    functional.set_step_mode(net, "m")
    graph = to_nir(net, x_TBCHW, pool=pool)
    assert [type(graph.nodes[name]).__name__ for name in ("1", "4")] == ["IF", "IF"]
    predictions, spikes, layers = nir_agreement(net, graph, x_TBCHW)
    assert predictions == 1 and min(spikes, *layers.values()) >= EQUAL and len(layers) == 2
    assert net(x_TBCHW).std() > 0.01


def not_finite(net):
    net.body[0].norm_lif.norm.running_mean[0] = torch.nan
    return net


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: built("resnet34"), "^stem.pool pools values that are no spikes: NIR has no max pool"),
        (lambda: built("after"), "^body.2 pools values that are no spikes: NIR has no max pool"),
        (lambda: built("cifarnet", neuron="ilif"), "neuron = ilif: NIR has no neurons that fire integers: set it to lif"),
        (lambda: built("cifarnet", v_reset=None), "^v_reset = null in .*: NIR has no soft reset: set it to 0"),
        (lambda: not_finite(built("cifarnet")), r"^body\.0\.conv has weights that are not finite"),
        (lambda: own(nn.ReLU()), "^2: NIR has no node for ReLU"),
        (lambda: own(ILIF()), "^2: NIR has no node for ILIF: take LIF or IFNode and train the network anew, or export it with"),
        (lambda: own(neuron.IFNode(v_reset=None)), "^v_reset = null in 2: NIR has no soft reset: set it to 0"),
        (lambda: own(nn.MaxPool2d(2)), "^2 pools values that are no spikes"),
        (lambda: own(nn.Conv2d(2, 2, 1, groups=2)), "^2 is Conv2d.*groups=2.*: NIR has ungrouped convolutions"),
        (lambda: own(nn.AvgPool2d(2)), "ends with a mean, which this graph has as a sum: name pool="),
        (lambda: own(nn.AvgPool2d(2, ceil_mode=True)), "^2 is AvgPool2d.*: NIR has pools of whole squares"),
        (lambda: own(lif := LIF(), lif), "^2 is called twice"),
        (lambda: Own(lambda x: x * 2), "^Own cannot be expressed in NIR .unsupported .*: let its forward call layers"),
        (lambda: Own(lambda x: x + x.flatten(0, 1)), "'input'.*NIR adds outputs of one shape, each once"),
    ],
)
def test_what_nir_cannot_express_is_refused(make, says):
    with pytest.raises(ExportError, match=says):
        to_nir(make(), 1, 16)
    with pytest.raises(ValueError, match="pool must be one of sum, avg, got 'max'"):
        to_nir(make(), 1, 16, "max")


@functools.cache
def small():
    return awake(build_network("cifarnet", 5, 1, 8, width=1 / 32, T=2), noise(16))


def noise(n):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(n))


@torch.no_grad()
def test_spikes_and_predictions_that_differ_are_counted():
    """With another bias in the graph the stem fires otherwise: the share is that of the two spike trains."""
    net, graph = small(), to_nir(small(), 1, 8)
    graph.nodes["head.0"].bias[0] += 1e6
    right = (net(noise(8)).mean(0).argmax(1) == 0).float().mean().item()
    assert nir_agreement(net, graph, noise(8))[:2] == (right, 1)
    other = copy.deepcopy(net)
    other.stem.norm_lif.norm.bias += 0.3
    graph.nodes["stem.conv"].bias += np.float32(0.3)
    _, spikes, layers = nir_agreement(net, graph, noise(8))
    one, two = (network.stem(noise(8)) > 0 for network in (net, other))
    assert 0 < layers["stem.norm_lif.lif"] == (one & two).sum().item() / (one | two).sum().item() < 1
    assert right < 1 and spikes < 1


@functools.cache
def graph() -> nir.NIRGraph:
    return to_nir(build_network("cifarnet", 5, 1, 8, width=1 / 64), 1, 8)


@pytest.fixture
def path(tmp_path):
    write_nir(tmp_path / "network.nir", graph())
    return tmp_path / "network.nir"


def test_a_graph_is_read_as_it_was_written_and_equal_graphs_are_equal_bytes(path):
    again = read_nir(str(path))
    assert list(map(tuple, again.edges)) == graph().edges
    assert set(again.nodes) == set(graph().nodes)
    for name, node in graph().nodes.items():
        for key, value in vars(node).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(again.nodes[name], key), value)
                assert getattr(again.nodes[name], key).dtype == value.dtype
    assert again.metadata == graph().metadata
    write_nir(path.with_name("again.nir"), graph())
    assert path.with_name("again.nir").read_bytes() == path.read_bytes()


def put(key, value):
    """Puts ``value`` in the place of an entry of the file."""

    def damage(path):
        with h5py.File(path, "r+") as file:
            del file[key]
            file[key] = value

    return damage


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1000]), r"cannot be read as NIR \(OSError: .*truncated"),
        (lambda path: path.unlink(), "no such file"),
        (put("version", "9.1.0"), rf"is of NIR '9\.1\.0', and the installed nir is {nir.version}"),
        (put("node/edges", [["input", "nowhere"]]), r"cannot be read as NIR \(ValueError: .*nowhere"),
        (put("node/nodes/stem.conv/bias", np.full(1, np.nan)), r"a number of node stem\.conv is not finite"),
    ],
    ids=["cut", "missing", "version", "edge", "NaN"],
)
def test_a_file_that_is_no_whole_nir_graph_is_refused_in_one_line_that_names_it(path, damage, says):
    damage(path)
    with pytest.raises(InputError, match=says) as refused:
        read_nir(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value) and refused.value.remedy

"""Operations and energy, on the networks of the table and on others: every form of steps, and what is refused."""

import re
from itertools import pairwise

import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import nn

import gee_core
from gee_core.errors import InputError
from gee_core.evaluation.energy import measure_energy
from gee_core.genome.encoding import genome_of
from gee_core.model.network import build_network
from gee_core.snn.lif import LIF
from tests.gee_core.lively import awake
from tests.gee_core.own_networks import THREE, AllSteps, Folded, OneStep

E_MAC, E_AC = 4.6, 0.9
TINY = {"width": 1 / 32, "image_size": 8, "num_classes": 3, "in_channels": 1}


def inference(name, n_genes=None, **settings):
    """A network of the table whose neurons fire, though not all of them, and images for it."""
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return awake(build_network(name, **TINY, n_genes=n_genes, T=3, **settings), x), x


@pytest.mark.parametrize("block", ["pre", "post"])
def test_a_residual_sum_costs_additions_that_eq_17_leaves_out(block):
    net, x = inference("resnet19", block=block)
    activity = measure_energy(net, [x[:4], x[4:]])
    channels, sides = [4, 4, 4, 8, 8, 8, 16, 16], [8, 8, 8, 4, 4, 4, 2, 2]
    assert activity.sums == 3 * sum(C * side**2 for C, side in zip(channels, sides, strict=True))
    assert activity.energy_of_sums_mj(E_AC) == pytest.approx(0.9e-9 * activity.sums)


def test_rates_equal_those_of_the_spikes_themselves():
    net, x = inference("resnet19", block="post")
    spikes, inputs = {}, {}
    for name, module in net.named_modules():
        if isinstance(module, LIF):
            module.register_forward_hook(lambda m, args, y, name=name: spikes.update({name: y.double()}))
        elif isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda m, args, y, name=name: inputs.update({name: args[0].double().mean().item()}))
    activity = measure_energy(net, [x])
    assert activity.spikes_per_image == pytest.approx(sum(s.sum().item() for s in spikes.values()) / 6)
    assert activity.firing_rate == pytest.approx(torch.cat([s.flatten() for s in spikes.values()]).mean().item())
    assert {layer.layer: layer.input_rate for layer in activity.layers} == pytest.approx(inputs)
    *convs, _, last = activity.layers
    for layer in convs:  # the sum of a shortcut with conv2 drives the same neurons
        neurons = re.sub(r"conv(\d?)$", r"norm_lif\1.lif", layer.layer.replace("shortcut", "conv2"))
        assert layer.output_rate == pytest.approx(spikes[neurons].mean().item())
    assert last.output_rate is None


def test_building_weights_costs_what_its_two_products_cost():
    net, x = inference("resnet18", n_genes=5)
    genome, g = genome_of(net), 5
    expected = [9 * C_out * g * g + 9 * C_out * C_in * g for C_in, C_out in pairwise(genome.channels)]
    activity = measure_energy(net, [x])
    encoded = [layer for layer in activity.layers if layer.decode_macs]
    assert [layer.decode_macs for layer in encoded] == expected
    assert {layer.layer for layer in activity.layers} - {layer.layer for layer in encoded} >= {"stem.conv", "head.0", "head.2"}
    extra = activity.energy_with_decoding_mj(E_MAC, E_AC) - activity.energy_mj(E_MAC, E_AC)
    assert extra == pytest.approx(4.6 * sum(expected) * 1e-9)


T, B = 3, 4


@pytest.fixture
def forms():
    """One network as single-step, multi-step and folded, neurons awake, and images."""
    torch.manual_seed(0)
    single, multi, folded = OneStep(5, 1, 8), AllSteps(5, 1, 8), Folded(5, 1, 8, T=T)
    with torch.no_grad():
        for module in single.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(3.0)
    for other in (multi, folded):
        other.load_state_dict(single.state_dict())
    return single, multi, folded, 2 * torch.randn(B, 1, 8, 8)


def test_looped_folded_and_multi_step_have_equal_counts(forms):
    single, multi, folded, x = forms
    repeated = x.repeat(T, 1, 1, 1, 1)
    activities = [
        measure_energy(single, x, steps=T),
        measure_energy(single, repeated, time_first=True),
        measure_energy(multi, x, steps=T),
        measure_energy(multi, [repeated[:, :3], repeated[:, 3:]], time_first=True),
        measure_energy(folded, x),
        measure_energy(folded, x.split(2)),
    ]
    assert all(0.01 < layer.output_rate < 0.99 for layer in activities[0].layers[:3])
    assert [layer.steps for layer in activities[0].layers] == [T] * 4
    assert all(activity == activities[0] for activity in activities[1:])


def test_the_state_of_the_neurons_plays_no_part_and_is_kept(forms):
    single, _, _, x = forms
    fresh = measure_energy(single, x.split(1), steps=T)
    with torch.no_grad():
        single.eval()(x)
    neurons = [module for module in single.modules() if isinstance(module, neuron.LIFNode)]
    before = [module.v.clone() for module in neurons]
    assert measure_energy(single, x, steps=T) == fresh
    assert all(torch.equal(module.v, v) for module, v in zip(neurons, before, strict=True))
    assert any(v.any() for v in before)


def test_draws_of_a_network_are_the_same_in_every_call():
    class Poisson(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.lif = nn.Linear(9, 4), LIF(T=1)

        def forward(self, x):
            return self.lif(self.fc((torch.rand_like(x) < 0.5).float()))

    net, x = Poisson(), torch.zeros(5, 9)
    state = torch.get_rng_state()
    first = measure_energy(net, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert measure_energy(net, x) == first
    assert 0.2 < first.layers[0].input_rate < 0.8


@pytest.mark.parametrize("value", [0.5, -1.0])
def test_one_input_that_is_no_spike_makes_a_layer_multiply(value):
    spikes, net = torch.tensor([[1.0, 0.0, 0.0, 1.0]]), nn.Sequential(nn.Linear(4, 3), LIF(T=1))
    assert measure_energy(net, spikes).energy_mj(4.6, 0.9) == pytest.approx(0.9 * 0.5 * 12 * 1e-9)
    (mixed,) = measure_energy(net, [spikes, spikes * value, spikes]).layers
    assert not mixed.binary and mixed.spiking == (value == -1.0)
    assert mixed.energy_mj(4.6, 0.9) == pytest.approx(4.6 * 12 * 1e-9)


def test_a_spike_of_minus_one_is_a_spike():
    net = nn.Sequential(nn.Linear(2, 2, bias=False), neuron.TernaryIFNode(), nn.Linear(2, 3, bias=False))
    net[0].weight.data = torch.eye(2)
    activity = measure_energy(net, torch.tensor([[2.0, -2.0]]))  # fires 1 and -1
    assert (activity.spikes_per_image, activity.firing_rate, activity.activation_sparsity) == (2, 1, 0)
    assert [layer.output_rate for layer in activity.layers] == [1, None]
    assert activity.silent == []


class Mixed(nn.Module):
    """Layers of kinds that are not counted."""

    def __init__(self):
        super().__init__()
        self.fc, self.norm, self.lif = nn.Linear(6, 8), nn.BatchNorm1d(8), LIF(T=1)
        self.attention, self.group, self.gru = nn.MultiheadAttention(8, 2), nn.GroupNorm(2, 8), nn.GRU(8, 8)
        self.unused, self.scale = nn.Conv2d(1, 1, 1), nn.ParameterList([nn.Parameter(torch.ones(1))])

    def forward(self, x):
        s = self.group(self.lif(self.norm(self.fc(input=x))))
        return self.gru(self.attention(s, s, s)[0])[0] * self.scale[0]


def test_layers_that_are_not_counted_are_named_and_batch_norm_is_free():
    activity = measure_energy(Mixed(), torch.randn(5, 6))
    assert [layer.layer for layer in activity.layers] == ["fc"]
    assert activity.not_counted == {
        "attention": "MultiheadAttention",
        "attention.out_proj": "NonDynamicallyQuantizableLinear, never called",
        "group": "GroupNorm",
        "gru": "GRU",
        "unused": "Conv2d, never called",
        "scale": "ParameterList",
    }


def with_weight(value: float, last: bool) -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), LIF(T=1), nn.Linear(2, 1))
    nn.init.constant_(net[3 if last else 0].weight, value)
    return net


class Raises(nn.Module):
    def __init__(self):
        super().__init__()
        self.lif = neuron.IFNode()

    def forward(self, x):
        raise KeyError("no such\nkey")


X = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("net", "images", "settings", "says"),
    [
        (nn.Linear(2, 2), X, {}, "the network has no neurons: build it with those of spikingjelly"),
        (nn.Sequential(LIF(1)), X * torch.nan, {}, "a batch holds values that are not finite"),
        (Raises(), X, {}, r"raises KeyError on a batch of shape \(3, 2\): 'no such\\nkey': give it images"),
        (with_weight(torch.nan, last=True), X, {}, "puts out values that are not finite: check its weights"),
        (with_weight(torch.nan, last=False), X, {}, "the input of 1 holds values that are not finite"),
        (with_weight(1.0, last=True), [], {}, "there are no images to count on"),
        (with_weight(1.0, last=True), X, {"steps": 2.5}, "steps = 2.5: must be an int >= 1"),
        (with_weight(1.0, last=True), X, {"steps": 2, "time_first": True}, "steps = 2, time_first = True: give one of the two"),
        (with_weight(1.0, last=True), X, {"dtype": torch.float16}, r"dtype = torch.float16: must be torch.float32 or torch.bf"),
        (with_weight(1.0, last=True), X.numpy(), {}, "a batch is a ndarray: give tensors, or tuples"),
        (OneStep(5, 1, 8), torch.ones(1, 8, 8), {"steps": 2}, r"of shape \(1, 8, 8\) is one image without a batch dimension"),
        (AllSteps(5, 1, 8), torch.ones(T, B, 1, 8, 8), {}, r"of shape \(3, 4, 1, 8, 8\) is \(T, B, …\) .* mode m: give time_"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_refused_with_one_message(net, images, settings, says):
    with pytest.raises(InputError, match=says) as refusal:
        measure_energy(net, images, **settings)
    assert "\n" not in str(refusal.value)
    if isinstance(images, torch.Tensor) and images.shape == X.shape and "dtype" not in settings and "input of 1" not in says:
        with pytest.raises(InputError, match=says):
            gee_core.record(net, images, **settings)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("batch", [2, 4], ids="batch of {}".format)
def test_a_plain_linear_layer_that_sees_its_steps_apart_runs_once_a_step(batch):
    class Apart(nn.Module):
        def __init__(self, num_classes, in_channels, image_size):
            super().__init__()
            self.body = gee_core.build_network(THREE[1], 7, in_channels, image_size, T=4).net
            self.head = nn.Linear(7, num_classes)

        def forward(self, x):
            return self.head(self.body(x))

    gee_core.register_network("a:apart", Apart)
    head = measure_energy(gee_core.build_network("a:apart", 5, 1, 8, T=4), torch.rand(batch, 1, 8, 8)).layers[-1]
    assert (head.layer, head.steps, head.macs) == ("net.head", 4, 35)


TRIANGLE = {"v_threshold": 0.5, "detach_reset": True, "surrogate_function": surrogate.PiecewiseQuadratic(alpha=2.0)}


@pytest.mark.parametrize("ours, theirs", [(gee_core.LIF(4), neuron.LIFNode(**TRIANGLE)), (gee_core.ILIF(4), neuron.ILIFNode())])
def test_spikes_and_membranes_of_every_step_mode_are_those_of_spikingjelly(ours, theirs):
    x = 3 * torch.rand(4, 2, 4)
    found = [gee_core.record(nn.Sequential(ours), x.flatten(0, 1))["0"]]
    for mode in ("s", "m"):
        functional.set_step_mode(theirs, mode)
        found.append(gee_core.record(nn.Sequential(theirs), x, time_first=True)["0"])
    theirs.store_v_seq = True
    spikes = theirs(x)
    assert all(torch.equal(each.spikes, spikes) and torch.allclose(each.membranes, theirs.v_seq) for each in found)

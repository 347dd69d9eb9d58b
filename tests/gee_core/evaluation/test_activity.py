"""The metrics of NeuroBench and SpikingJelly's counters, beside Eq. 17: by hand, and by their own formulas."""

import copy

import pytest
import torch
from spikingjelly.activation_based.op_counter import DispatchCounterMode, MACCounter, SynOpCounter
from torch import nn

import gee_core
from gee_core.evaluation import energy
from gee_core.evaluation.energy import measure_energy
from gee_core.rank import Rank
from gee_core.snn.lif import LIF
from gee_core.training.loop import for_inference


class Padded(nn.Module):
    """1→1 and 1→2 convolutions 3x3 with padding, each with LIF behind it, 8→3 linear, on an image of 2x2; two steps.

    Of the first kernel only the centre is not 0, so its currents are the image times 2. The membrane is h = v/2 + x, it fires
    at 1 and is reset to 0.
    """

    def __init__(self):
        super().__init__()
        lif = {"T": 2, "tau": 2.0, "decay_input": False, "v_threshold": 1.0}
        self.conv1, self.lif1 = nn.Conv2d(1, 1, 3, padding=1, bias=False), LIF(**lif)
        self.conv2, self.lif2 = nn.Conv2d(1, 2, 3, padding=1, bias=False), LIF(**lif)
        self.fc = nn.Linear(8, 3)
        with torch.no_grad():
            for kernel in (self.conv1.weight, self.conv2.weight):
                kernel.zero_()[:, :, 1, 1] = 2.0
            self.conv2.weight[0].fill_(2.0)
            self.fc.weight.fill_(0.3)[0, 0] = 0.0

    def forward(self, x):
        spikes = self.lif1(self.conv1(x).repeat(2, 1, 1, 1))
        return self.fc(self.lif2(self.conv2(spikes)).flatten(1)).unflatten(0, (2, -1))


# conv1's currents: 1, 0, 0, 0.5. The first of its neurons fires at both steps, the last one at none: 0.5, then 0.25 + 0.5.
# A kernel 3x3 with padding leads every one of the four pixels to all four outputs. So channel 0 of conv2 gets a current of 2
# at all four positions, channel 1 at the first one alone: five of its neurons fire, at both steps.
IMAGE = torch.tensor([[[[0.5, 0.0], [0.0, 0.25]]]])


@pytest.fixture
def padded():
    return measure_energy(Padded(), IMAGE)


def test_eq_17_counts_padding_and_weights_of_zero(padded):
    assert [(layer.macs, layer.steps) for layer in padded.layers] == [(4 * 9, 1), (2 * 4 * 9, 2), (24, 2)]
    rates = [layer.input_rate for layer in padded.layers[1:]]
    assert rates == [2 / 8, 10 / 16]
    assert [(layer.layer, layer.kind, layer.binary) for layer in padded.layers] == [
        ("conv1", "conv", False),
        ("conv2", "conv", True),
        ("fc", "fc", True),
    ]
    assert [layer.output_rate for layer in padded.layers] == [2 / 8, 10 / 16, None]
    energies = [4.6 * 36, 0.9 * 2 / 8 * 72 * 2, 0.9 * 10 / 16 * 24 * 2]
    assert [layer.energy_mj(4.6, 0.9) / 1e-9 for layer in padded.layers] == pytest.approx(energies)
    assert padded.energy_with_decoding_mj(4.6, 0.9) == padded.energy_mj(4.6, 0.9) == pytest.approx(sum(energies) * 1e-9)


def test_counts_are_means_over_images_whatever_the_batches(padded):
    images = torch.cat([IMAGE, torch.zeros(1, 1, 2, 2)])  # in a black image nothing fires
    activity = measure_energy(Padded(), images)
    assert activity == measure_energy(Padded(), images.split(1)) == measure_energy(Padded(), images.flip(0).split(1))
    assert (activity.spikes_per_image, activity.firing_rate) == (12 / 2, padded.firing_rate / 2)
    assert [layer.input_rate for layer in activity.layers] == [layer.input_rate / 2 for layer in padded.layers]
    assert (activity.silent, measure_energy(Padded(), images[1:]).silent) == ([], ["conv1", "conv2", "fc"])


def test_counts_of_processes_add_up_also_where_a_process_has_no_images(padded, monkeypatch):
    images, shares = torch.cat([IMAGE, torch.ones(1, 1, 2, 2)]), []
    monkeypatch.setattr(energy, "from_all", lambda counts, rank: [shares.append(counts) or counts])
    for image in images.split(1):
        measure_energy(Padded(), image)
    monkeypatch.setattr(energy, "from_all", lambda counts, rank: [counts, *shares])
    together = measure_energy(Padded(), [], rank=Rank(0, 3))
    monkeypatch.undo()
    assert together == measure_energy(Padded(), images) != padded


def test_printed_it_is_a_table_of_the_layers_at_the_energies_of_the_paper(padded):
    titles, *rows, energy, spikes = str(padded).replace("\N{NO-BREAK SPACE}", " ").splitlines()
    assert titles == "layer  kind  MACs per step  steps  input   input rate     energy  fires"
    assert rows == [
        "conv1  conv             36      1  real        0.1875   0.166 nJ  0.250",
        "conv2  conv             72      2  binary        0.25  0.0324 nJ  0.625",
        "fc     fc               24      2  binary       0.625   0.027 nJ      –",
    ]
    assert energy == "energy: 0.225 nJ per image (Eq. 17: 4.6 pJ per MAC, 0.9 pJ per AC)"
    assert spikes == "spikes: 12.0 per image, 0.500 per neuron and step"
    assert padded.energy_mj() == padded.energy_mj(4.6, 0.9)
    assert padded.table(4.6e6, 0.0).splitlines()[1].split()[6:8] == ["166", "µJ"]


def test_neurobench_counts_the_connections_of_active_inputs_with_a_weight(padded):
    assert [layer.dense for layer in padded.layers] == [4 * 4, 2 * 4 * 8, 2 * 8 * 3]
    assert [layer.effective for layer in padded.layers] == [2 * 1, 2 * (4 + 1), 10 * 3 - 2]
    assert padded.neurobench() == {
        "footprint": 4 * (9 + 18 + 24 + 3),
        "connection_sparsity": (8 + 8 + 1) / (9 + 18 + 24),
        "activation_sparsity": 1 - (2 + 10) / (2 * 4 + 2 * 8),
        "synaptic_operations": {"Effective_MACs": 2, "Effective_ACs": 10 + 28, "Dense": 16 + 64 + 48},
    }


def test_whole_numbers_of_an_image_are_no_spikes_where_neurons_fire_integers():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), gee_core.ILIF(T=1, levels=3), nn.Flatten(), nn.Linear(8, 1))
    image = torch.tensor([[[[3.0, 0.0], [2.0, 1.0]]]])
    stem = measure_energy(net, image).layers[0]
    assert (stem.binary, stem.counts, stem.spiking, stem.effective, stem.synops) == (False, False, False, 6, 6)


def counters(net: nn.Module, x: torch.Tensor) -> tuple[int, int]:
    """SpikingJelly's multiply-accumulates and synaptic operations."""
    macs, synops = MACCounter(extra_ignore_modules=[nn.BatchNorm2d]), SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([macs, synops]):
        net(x)
    return macs.get_total(), synops.get_total()


LAYERS = {
    "conv1d": (nn.Conv1d(4, 6, 5, padding=2, stride=2), (4, 11)),
    "circular": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (4, 5, 6)),
    "grouped": (nn.Conv2d(4, 6, (1, 3), groups=2, dilation=2, padding="same"), (4, 5, 6)),
    "conv3d": (nn.Conv3d(2, 3, 3, padding=1, stride=(1, 2, 1)), (2, 4, 5, 4)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (4, 3, 4)),
    "transposed3d": (nn.ConvTranspose3d(2, 2, 2, dilation=2), (2, 3, 2, 3)),
    "tokens": (nn.Linear(9, 4), (5, 9)),
}


def neurobench_operations(module: nn.Module, x: torch.Tensor, total: bool) -> int:
    """``single_layer_MACs`` of neurobench 2.3: a copy of the layer with weights and inputs of 0 and 1 and without bias."""
    module = copy.deepcopy(module)
    module.weight.data = torch.ones_like(module.weight) if total else (module.weight != 0).float()
    module.bias.data = torch.zeros_like(module.bias)
    return int(module(torch.ones_like(x) if total else (x != 0).float()).sum())


@pytest.mark.parametrize("values", [(0.0, 1.0), (-1.0, 0.0, 1.0), (0.0, 0.7)], ids=["spikes", "ternary", "real"])
@pytest.mark.parametrize("name", LAYERS)
def test_operations_of_every_kind_of_layer_equal_neurobenchs_formula(name, values):
    module, shape = copy.deepcopy(LAYERS[name][0]), LAYERS[name][1]
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        module.weight[torch.rand(module.weight.shape, generator=draw) < 0.3] = 0.0
    x = torch.tensor(values)[torch.randint(len(values), (3, *shape), generator=draw)]
    activity = measure_energy(nn.Sequential(module, LIF(T=1)), x.split([2, 1]))
    operations = activity.neurobench()["synaptic_operations"]
    key, other = ("Effective_MACs", "Effective_ACs") if values == (0.0, 0.7) else ("Effective_ACs", "Effective_MACs")
    assert 3 * operations[key] == pytest.approx(neurobench_operations(module, x, False))
    assert operations[key] > 0
    assert operations[other] == 0
    assert 3 * operations["Dense"] == pytest.approx(neurobench_operations(module, x, True))
    (count,) = activity.layers
    assert count.binary == (values == (0.0, 1.0))
    assert count.kind == ("fc" if name == "tokens" else "transposed" if name.startswith("transposed") else "conv")
    assert counters(module, x) == ((0, round(3 * count.synops)) if count.binary else (3 * count.macs * count.steps, 0))


def test_the_footprint_is_that_of_genes_and_of_decoded_weights():
    net = gee_core.build_network("cifarnet", 3, 1, 8, n_genes=4, width=1 / 32)
    plain = for_inference(net)
    sizes = [sum(4 * tensor.numel() for tensor in one.state_dict().values()) for one in (net, plain)]
    counters_of_batches = sum(name.endswith("num_batches_tracked") for name in plain.state_dict())
    activity = measure_energy(net, torch.randn(1, 1, 8, 8))
    assert [activity.footprint, activity.footprint_decoded] == [size + 4 * counters_of_batches for size in sizes]  # int64
    alone = measure_energy(plain, torch.randn(1, 1, 8, 8))
    assert alone.footprint == alone.footprint_decoded == activity.footprint_decoded != activity.footprint

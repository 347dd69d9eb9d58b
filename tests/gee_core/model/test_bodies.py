"""What a body of the table can hold beyond the paper's layers: average pools, other kernels, dropout."""

import pytest
import torch
from torch import nn

from gee_core.config.known_networks import encoded_channels, kernel_positions
from gee_core.genome.encoding import genome_of
from gee_core.genome.genotype import analytic_genotype
from gee_core.model.layers import StepDropout
from gee_core.model.network import build_network
from gee_core.training.loop import for_inference
from gee_core.zoo import NETWORKS, A, Block, Dropout, NetworkSpec, P
from tests.gee_core.model.test_network import images


@pytest.fixture
def entry(monkeypatch):
    """Puts an entry into the table and builds it."""

    def build(spec, **settings):
        monkeypatch.setitem(NETWORKS, "entry", spec)
        return build_network("entry", 5, 3, 16, **({"T": 3} | settings))

    return build


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_a_pool_of_an_entry_is_of_the_configured_kind_or_always_the_average(entry, pool):
    net = entry(NetworkSpec(4, (4, P, 6, A, 8)), pool=pool)
    kinds = [type(module) for module in net.modules() if isinstance(module, nn.MaxPool2d | nn.AvgPool2d)]
    assert kinds == [nn.MaxPool2d if pool == "max" else nn.AvgPool2d, nn.AvgPool2d]
    assert net(images()).shape == (3, 3, 5)


@pytest.mark.parametrize("spec", [NetworkSpec(4, (6, 8), kernel=5), NetworkSpec(4, (Block(4), Block(8, 2)), kernel=5)])
def test_all_convolutions_of_an_entry_have_its_kernel_and_so_has_the_analytic_wiring(entry, spec):
    net = entry(spec, n_genes=3)
    assert {conv.kernel_size for conv in net.conv_chain()} == {(5, 5)}
    assert net.body(net.stem(images())).shape[-2:] == ((16, 16) if 6 in spec.body else (8, 8))
    assert analytic_genotype(encoded_channels("entry"), 3, kernel_positions("entry")) == genome_of(net).analytic_genotype()


def test_dropout_drops_the_same_neurons_at_every_step_and_only_in_training():
    layer, spikes = StepDropout(0.25, 3), torch.ones(3 * 8, 16, 4, 4)
    torch.manual_seed(0)
    kept = layer(spikes).unflatten(0, (3, 8))
    assert torch.equal(kept, kept[:1].expand_as(kept))
    assert set(kept.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert (kept == 0).double().mean().item() == pytest.approx(0.25, abs=0.05)
    assert not torch.equal(kept[0, 0], kept[0, 1])
    assert layer.eval()(spikes) is spikes


def test_dropout_changes_neither_weights_nor_the_network_that_is_measured(entry):
    settings = {"n_genes": 3, "seed": 1}
    plain, dropping = (entry(NetworkSpec(4, body), **settings) for body in ((4, 6), (4, 6, Dropout(0.5))))
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in dropping.named_parameters()]
    assert torch.equal(for_inference(plain)(images()), for_inference(dropping)(images()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"body": (P, A)}, "has no convolution to encode"),
        ({"body": (8, Block(8))}, "mixes residual blocks with other layers"),
        ({"kernel": 4}, "kernel = 4: must be odd, and 3 or more"),
        ({"kernel": 1}, "kernel = 1: must be odd, and 3 or more"),
    ],
)
def test_an_entry_that_cannot_be_built_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        NetworkSpec(**({"stem": 4, "body": (8,)} | changes))

"""The table of networks against the paper's parameter counts, from built networks and from the formula."""

import pytest
import torch
from torch import nn

from gee_core.config.network import default_block, encoded_channels, kernel_positions, least_side
from gee_core.genome.encoding import genome_of
from gee_core.genome.genotype import analytic_genotype
from gee_core.model.layers import StepDropout
from gee_core.model.network import build_network, count_parameters
from gee_core.zoo import NETWORKS, A, Block, NetworkSpec, P
from tests.gee_core.model.test_network import images

# (network, g, parameters with 10 classes, with 100): the paper's Table 2, whose digits fit `post` and `pre` blocks alike.
PAPER = [
    ("cifarnet", 100, 3_721_754, 3_814_004),
    ("cifarnet", 200, 7_438_154, 7_530_404),
    ("vgg16", 100, 2_514_522, 2_698_932),
    ("vgg16_wide", 200, 6_887_050, 7_255_780),
    ("resnet18", 100, 3_659_418, 3_682_548),
    ("resnet18", 250, 8_723_118, 8_746_248),
    ("resnet19", 100, 4_352_154, 4_375_284),
    ("resnet19", 200, 8_414_154, 8_437_284),
]
# Millions of the last column of the table, without genes.
PLAIN = {"cifarnet": 19.49, "vgg16": 9.24, "vgg16_wide": 18.70, "resnet18": 11.22, "resnet19": 12.70}

# Written out again, independently of the table: outputs of every 3x3 convolution, stem first.
CHAINS = {
    "cifarnet": [256] * 4 + [512] * 2 + [1024] * 2,
    "vgg16": [64, 128, 256, 256, 512, 512, 512, 512],
    "vgg16_wide": [64, 128, 256, 256, 512, 512, 1024, 1024],
    "resnet18": [128] * 5 + [256] * 4 + [512] * 4,
    "resnet19": [128] * 7 + [256] * 6 + [512] * 4,
}


def built(name, *args, block="post", **kwargs):
    """A network without memory behind its weights: only counted. Residual blocks are those of the paper's table unless said."""
    with torch.device("meta"):
        return build_network(name, *args, block=block if default_block(name) else None, **kwargs)


@pytest.mark.parametrize(("name", "g", "of_10", "of_100"), PAPER)
def test_a_built_network_has_the_papers_number_of_parameters(name, g, of_10, of_100):
    assert [count_parameters(built(name, classes, n_genes=g)) for classes in (10, 100)] == [of_10, of_100]
    assert round(count_parameters(built(name, 10)) / 1e6, 2) == PLAIN[name]


def test_pre_activation_is_the_default_of_resnets_and_has_768_parameters_more():
    with torch.device("meta"):
        default = count_parameters(build_network("resnet18", 10, n_genes=100))
    assert default == 3_660_186 == 768 + 3_659_418  # the last sum's batch norm and the shortcuts'


def test_resnet34_on_imagenet_has_10738412_parameters_and_21_80_million_plain():
    assert count_parameters(built("resnet34", 1000, image_size=224, n_genes=146)) == 10_738_412
    assert round(count_parameters(built("resnet34", 1000, image_size=224)) / 1e6, 2) == 21.80


@pytest.mark.parametrize("block", ["pre", "post"])
@pytest.mark.parametrize("name", CHAINS)
def test_the_encoded_chain_is_every_3x3_convolution_of_the_table_in_order(name, block):
    convs = built(name, 10, block=block).conv_chain()
    assert [conv.out_channels for conv in convs] == CHAINS[name] == encoded_channels(name)
    narrow = built(name, 10, block=block, width=0.33).conv_chain()
    assert encoded_channels(name, 0.33) == [conv.out_channels for conv in narrow]
    tilted = built(name, 10, block=block, width=0.33, tilt=4.0).conv_chain()
    channels = encoded_channels(name, 0.33, 4.0)
    assert channels == [conv.out_channels for conv in tilted]
    assert channels[0] == round(CHAINS[name][0] * 0.33 / 2) and channels[-1] == round(CHAINS[name][-1] * 0.33 * 2)
    assert all(conv.bias is None for conv in convs)
    if name in ("resnet18", "resnet19"):
        assert built(name, 10, block=block, width=0.33, tilt=4.0).head[0].out_features == round(256 * 0.33 * 2)


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


@pytest.mark.parametrize(("name", "size"), [("vgg16", 16), ("cifarnet", 8), ("vgg16", 3), ("resnet34", 32), ("dvsnet", 12)])
def test_small_images_skip_pools_without_pixels_down_to_the_least_side(name, size):
    net, least = build_network(name, 3, image_size=size, width=1 / 32, T=2).eval(), least_side(name, size)
    with torch.no_grad():
        for side in (size, least):
            assert net(torch.zeros(1, 3, side, side)).shape == (2, 1, 3)
        if least > 1:
            with pytest.raises(RuntimeError):
                net(torch.zeros(1, 3, least - 1, least - 1))

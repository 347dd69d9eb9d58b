"""The table of networks against the paper's parameter counts, from built networks and from the formula."""

import pytest
import torch

from gee_core.config.known_networks import default_block, encoded_channels
from gee_core.model.network import build_network, count_parameters
from gee_core.zoo import NETWORKS, Block, P

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
PRE = [
    ("resnet18", 100, 3_660_186),
    ("resnet18", 250, 8_723_886),
    ("resnet19", 100, 4_352_922),
    ("resnet19", 200, 8_414_922),
]
PLAIN_MILLIONS = {"cifarnet": 19.49, "vgg16": 9.24, "vgg16_wide": 18.70, "resnet18": 11.22, "resnet19": 12.70}

# Written out again, independently of the table: outputs of every 3x3 convolution, stem first; 1x1 shortcuts; head.
CHAINS = {
    "cifarnet": ([256] * 4 + [512] * 2 + [1024] * 2, [], [1024]),
    "vgg16": ([64, 128, 256, 256, 512, 512, 512, 512], [], [512 * 4]),
    "vgg16_wide": ([64, 128, 256, 256, 512, 512, 1024, 1024], [], [1024 * 4]),
    "resnet18": ([128] * 5 + [256] * 4 + [512] * 4, [(128, 256), (256, 512)], [512, 256]),
    "resnet19": ([128] * 7 + [256] * 6 + [512] * 4, [(128, 256), (256, 512)], [512, 256]),
}
PAPERS = [*CHAINS, "resnet34"]
"""The paper's networks; the table may hold others."""


def built(name, *args, block="post", **kwargs):
    """A network without memory behind its weights: only counted. Residual blocks are those of the paper's table unless said."""
    with torch.device("meta"):
        return build_network(name, *args, block=block if default_block(name) else None, **kwargs)


@pytest.mark.parametrize("num_classes", [10, 100])
@pytest.mark.parametrize(("name", "g", "of_10", "of_100"), PAPER)
def test_a_built_network_has_the_papers_number_of_parameters(name, g, of_10, of_100, num_classes):
    expected = {10: of_10, 100: of_100}[num_classes]
    assert count_parameters(built(name, num_classes, n_genes=g)) == expected


@pytest.mark.parametrize(("name", "g", "expected"), PRE)
def test_pre_activation_is_the_default_of_resnets_and_has_768_parameters_more(name, g, expected):
    with torch.device("meta"):
        assert count_parameters(build_network(name, 10, n_genes=g)) == expected
    assert count_parameters(built(name, 10, block="pre", n_genes=g)) == expected
    assert expected - count_parameters(built(name, 10, n_genes=g)) == 768  # the last sum's batch norm and the shortcuts'
    assert f"{expected / 1e6:.2f}" == f"{(expected - 768) / 1e6:.2f}"  # what the paper prints


def test_resnet34_on_imagenet_has_10738412_parameters_and_21_80_million_plain():
    assert count_parameters(built("resnet34", 1000, image_size=224, n_genes=146)) == 10_738_412
    assert round(count_parameters(built("resnet34", 1000, image_size=224)) / 1e6, 2) == 21.80


@pytest.mark.parametrize("name", PLAIN_MILLIONS)
def test_the_same_network_unencoded_has_the_last_column_of_the_table(name):
    assert round(count_parameters(built(name, 10)) / 1e6, 2) == PLAIN_MILLIONS[name]


@pytest.mark.parametrize("name", CHAINS)
def test_the_count_follows_the_formula_of_the_genetic_encoding(name):
    channels, shortcuts, head = CHAINS[name]
    g, num_classes = 37, 7
    widths = [*head, num_classes]
    linear = sum(i * o + o for i, o in zip(widths[:-1], widths[1:], strict=True))  # noqa: RUF007
    genes = 9 * sum(channels) * g + g * g
    expected = genes + 27 * channels[0] + 2 * sum(channels) + sum(i * o for i, o in shortcuts) + linear
    assert count_parameters(built(name, num_classes, n_genes=g)) == expected


@pytest.mark.parametrize("block", ["pre", "post"])
@pytest.mark.parametrize("name", CHAINS)
def test_the_encoded_chain_is_every_3x3_convolution_of_the_table_in_order(name, block):
    convs = built(name, 10, block=block).conv_chain()
    assert [conv.out_channels for conv in convs] == CHAINS[name][0] == encoded_channels(name)
    assert all(conv.bias is None for conv in convs)


@pytest.mark.parametrize("width", [0.125, 0.33])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_encoded_channels_are_those_of_the_built_network_at_any_width(name, width):
    convs = built(name, 10, width=width).conv_chain()
    assert encoded_channels(name, width) == [conv.out_channels for conv in convs]


@pytest.mark.parametrize("name", PAPERS)
def test_only_networks_with_residual_blocks_have_a_form_of_them(name):
    assert default_block(name) == ("pre" if name.startswith("resnet") else None)


def test_a_real_network_has_as_many_parameters_as_one_without_memory():
    assert count_parameters(build_network("vgg16", 10, n_genes=100)) == 2_514_522


@pytest.mark.parametrize("name", PAPERS)
def test_strides_are_in_the_first_block_of_a_stage_and_pools_never_lead(name):
    spec = NETWORKS[name]
    channels = spec.stem
    assert spec.body[0] != P
    for layer in spec.body:
        if isinstance(layer, Block):
            assert layer.stride == (1 if layer.channels == channels else 2)
            channels = layer.channels

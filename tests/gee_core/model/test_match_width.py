from types import SimpleNamespace

import pytest

from gee_core.errors import InputError
from gee_core.model.match_width import narrowed_width
from gee_core.model.network import build_network, count_parameters
from tests.gee_core.evolution.proxy_task import NETWORK


def width_of(name, in_channels, image_size, target, tolerance=0.02, block=None):
    network = NETWORK.model_copy(update={"name": name, "block": block})
    images = SimpleNamespace(num_classes=10, in_channels=in_channels, image_size=image_size)
    return narrowed_width(network, images, target, tolerance)


def test_no_other_width_comes_closer_and_it_has_few_decimals():
    target = 40_000
    found = width_of("vgg16", 1, 8, target, tolerance=0.05)
    reached = count_parameters(build_network("vgg16", 10, 1, 8, width=found))
    assert found == round(found, 4)
    others = [count_parameters(build_network("vgg16", 10, 1, 8, width=k / 1000)) for k in range(30, 160, 2)]
    assert abs(reached - target) <= min(abs(other - target) for other in others)


@pytest.mark.parametrize("target", [10, 10**12])
def test_a_count_out_of_reach_is_refused_with_the_closest_one(target):
    with pytest.raises(InputError, match=r"vgg16: no plain network within 2% of .* the closest has .*: raise width"):
        width_of("vgg16", 1, 8, target)

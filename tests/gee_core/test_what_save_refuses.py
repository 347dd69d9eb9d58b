"""Networks that a file could not rebuild, and names that two files would share, are refused before anything is written."""

import pytest
import torch
from torch.nn.utils import parametrize

from gee_core.checkpoint import save
from gee_core.errors import DivergedError, InputError
from gee_core.export.to_nir import to_nir
from gee_core.gene_file import save_genes
from gee_core.genome.encoding import encode
from gee_core.model.network import build_network
from gee_core.snn.lif import LIF


def raised_threshold(net):
    next(module for module in net.modules() if isinstance(module, LIF)).v_threshold = 0.2
    return net


def wider(net):
    net.head.append(torch.nn.Linear(5, 5))
    return net


class Doubled(torch.nn.Module):
    def forward(self, W):
        return 2 * W


def twice_parametrized(net):
    net = encode(net, 4, convs=net.conv_chain())
    parametrize.register_parametrization(net.conv_chain()[1], "weight", Doubled())
    return net


CHANGED = [
    (twice_parametrized, r"the weight of body\.0\.conv has a parametrization after its genes"),
    (lambda net: encode(net, 4, convs=net.conv_chain()[:3]), "is not as build_network"),
    (raised_threshold, "norm_lif.lif is not as build_network makes it, so a file of this kind would not rebuild the network"),
    (wider, r"head\.1 is not as"),
]


def test_genes_in_another_order_than_the_file_would_rebuild_are_not_saved(tmp_path):
    net = build_network("resnet18", 5, 3, 8, width=1 / 32)
    chain = net.conv_chain()
    with pytest.raises(ValueError, match="genome is not as build_network makes it"):
        save(tmp_path / "network.safetensors", encode(net, 4, convs=[chain[0], chain[2], chain[1], *chain[3:]]))


@pytest.mark.parametrize("write", [save, save_genes])
@pytest.mark.parametrize(
    ("change", "said"), CHANGED, ids=["parametrized", "a part is encoded", "another threshold", "another head"]
)
def test_a_network_that_its_file_would_not_rebuild_is_not_saved(write, change, said, tmp_path):
    net = change(build_network("vgg16", 5, 3, 8, width=1 / 32))
    with pytest.raises(ValueError, match=said):
        write(tmp_path / "network.safetensors", net)
    assert not list(tmp_path.iterdir())


def test_names_that_no_file_can_have_and_numbers_that_are_not_finite_are_refused(tmp_path):
    net = build_network("vgg16", 5, 3, 8, width=1 / 32)
    with pytest.raises(InputError, match=r"net-lr0.1: a checkpoint and the JSON file beside it share its name: let it end in"):
        save(tmp_path / "net-lr0.1", net)
    with pytest.raises(InputError, match=r"cannot be written .*: choose a shorter name"):
        save_genes(tmp_path / ("x" * 300), net)
    net.head[0].bias.data[0] = torch.nan
    with pytest.raises(DivergedError, match=r"not written, because head\.0\.bias holds values that are not finite"):
        save(tmp_path / "network.safetensors", net)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("own")
def test_an_own_network_with_changed_modules_is_not_saved_but_with_another_backend(tmp_path):
    net = build_network("networks.my:VGG", 5, 1, 8)
    net.net.features[2].backend = "torch"
    save(tmp_path / "network.safetensors", net)
    net.net.features[2].v_threshold = 0.1
    with pytest.raises(ValueError, match=r"net\.features\.2 is not as build_network makes it"):
        save(tmp_path / "changed.safetensors", net)


@pytest.mark.parametrize("use", [to_nir, lambda net: save("network.safetensors", net)], ids=["to_nir", "save"])
def test_a_wrapped_network_is_refused_with_the_name_of_what_is_in_it(use):
    net = build_network("cifarnet", 5, 3, 8, width=1 / 16)
    with pytest.raises(InputError, match=r"^the network is wrapped in \w+: give its \.module$"):
        use(torch.optim.swa_utils.AveragedModel(net))

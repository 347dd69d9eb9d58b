"""Networks on disk: what comes back is bit for bit what was saved, and anything else is refused by name."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn.utils import parametrize

import gee_core
from gee_core.checkpoint import load, load_tensors, save, save_tensors
from gee_core.config import NetworkConfig
from gee_core.config import network as names
from gee_core.errors import DivergedError, InputError
from gee_core.export.to_nir import to_nir
from gee_core.gene_file import save_genes
from gee_core.genome.encoding import encode
from gee_core.model.network import build_network
from gee_core.model.wired import architecture_of, wired_network
from gee_core.snn.lif import LIF
from gee_core.storage.atomic_files import sha256
from tests.gee_core.lively import same_state
from tests.gee_core.own_networks import VGG


def config(**changes) -> NetworkConfig:
    values = {"name": "resnet18", "width": 1 / 32, "n_genes": 4, "T": 2, "tau": 2.0, "decay_input": True}
    values |= {"v_threshold": 0.5, "v_reset": 0.0, "detach_reset": True}
    values |= {"surrogate": "piecewise_quadratic", "surrogate_alpha": 2.0, "neuron": "lif", "levels": None}
    values |= {"block": None, "pool": "max", "tilt": 1.0, "init": None}
    return NetworkConfig(**(values | changes))


def structure(**changes) -> dict:
    """The network in the JSON file of ``config()``, changed."""
    return config().structure().model_dump() | changes


def built(network: NetworkConfig, seed: int = 0):
    return wired_network(network, SimpleNamespace(num_classes=3, in_channels=3, image_size=8), None, seed)


@pytest.fixture
def path(tmp_path) -> Path:
    """A saved network of ``config()``."""
    path = tmp_path / "network.safetensors"
    save(path, built(config()))
    return path


@pytest.mark.parametrize(
    "form", [{"block": "post"}, {"name": "vgg16", "pool": "avg"}, {"neuron": "ilif", "levels": 3}], ids=str
)
@pytest.mark.parametrize("n_genes", [4, None], ids=["genetic", "plain"])
def test_a_network_comes_back_bit_for_bit_and_in_its_own_memory_layout(n_genes, form, tmp_path):
    network, path = config(n_genes=n_genes, **form), tmp_path / "network.safetensors"
    net = built(network, seed=1)
    save(path, net)
    back = load(path)
    assert {k: v.dtype for k, v in net.state_dict().items()} == {k: v.dtype for k, v in back.state_dict().items()}
    assert same_state(net, back)
    assert back.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert architecture_of(back) == architecture_of(net)
    assert architecture_of(back).network == network.structure()
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(net.eval()(x), back.eval()(x))


def test_values_beyond_the_finite_come_back_too(tmp_path):
    path = tmp_path / "state.safetensors"
    tensors = {"a": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]), "step": torch.tensor(3.0)}
    save_tensors(path, tensors, {"rows": [{"lr": 0.1 + 0.2}]})
    back, meta = load_tensors(path)
    assert back["a"].view(torch.int32).tolist() == tensors["a"].view(torch.int32).tolist()
    assert back["step"].shape == ()
    assert meta == {"rows": [{"lr": 0.1 + 0.2}]}


def test_the_checksum_is_that_of_the_tensors_followed_by_the_canonical_json(path):
    values = json.loads(path.with_suffix(".json").read_text())
    assert values["network"] == config().structure().model_dump()
    found = values.pop("sha256")
    assert found == hashlib.sha256(path.read_bytes() + json.dumps(values, sort_keys=True).encode()).hexdigest()
    with_old_checksum(path)  # is still read
    assert load(path).genome.n_genes == 4


def with_old_checksum(path: Path, **changes) -> None:
    """Write the JSON file as version 0.1 did, with the checksum of the tensors alone."""
    values = json.loads(path.with_suffix(".json").read_text()) | changes | {"sha256": sha256(path)}
    path.with_suffix(".json").write_text(json.dumps(values))


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(path)
    problem = caught.value.problem
    assert str(caught.value) == problem  # the core knows no command that helps
    assert "\n" not in problem
    assert str(path.parent) in problem
    return problem


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"network": {"name": "resnet18"}}, "lacks T, block, decay_input"),
        ({"network": structure(name="resnet50")}, "unknown network"),
        ({"image_size": "8"}, "image_size"),
        ({"num_classes": 2**31 - 1}, "does not fit the network"),  # compared before it takes any memory
        ({"network": structure(n_genes=10_000)}, "does not fit the network"),
    ],
    ids=str,
)
def test_a_json_file_that_describes_no_network_or_another_is_refused(changes, named, path):
    with_old_checksum(path, **changes)
    problem = refused(path)
    assert named in problem
    assert ("does not describe a network of build_network" in problem) is ("does not fit" not in problem)


@pytest.mark.usefixtures("own")
def test_a_registered_network_comes_back_and_a_files_name_imports_no_code(tmp_path):
    gee_core.register_network("json:JSONDecoder", VGG)
    net = gee_core.build_network("json:JSONDecoder", 5, 1, 8, 4)
    gee_core.save(tmp_path / "a.safetensors", net)
    back = gee_core.load(tmp_path / "a.safetensors")
    assert same_state(net, back)
    assert architecture_of(back) == architecture_of(net)
    names.OWN.pop("json:JSONDecoder")
    with pytest.raises(InputError) as refused:
        gee_core.load(tmp_path / "a.safetensors")
    assert str(refused.value) == (
        f"{tmp_path}/a.safetensors: is of your own network json:JSONDecoder, and no code is imported because a file names it: "
        "register it first: gee_core.register_network('json:JSONDecoder', …)"
    )


def raised_threshold(net):
    next(module for module in net.modules() if isinstance(module, LIF)).v_threshold = 0.2
    return net


def in_another_order(net):
    *first, sixth, seventh, last = net.conv_chain()
    return encode(net, 4, convs=[*first, seventh, sixth, last])


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
    (in_another_order, "genome is not as build_network makes it"),
]


@pytest.mark.parametrize("write", [save, save_genes])
@pytest.mark.parametrize(("change", "said"), CHANGED, ids=range(5))
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

"""The user's own networks on disk."""

import pytest
import torch

import gee_core
from gee_core.config import known_networks as names
from gee_core.errors import InputError
from gee_core.model.wired import architecture_of
from tests.gee_core.own_networks import OWN, VGG, lively


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("n_genes", [4, None], ids=["genetic", "plain"])
@pytest.mark.parametrize("name", ["networks.my:VGG", "networks.my:Folded"])
def test_a_registered_network_comes_back_bit_for_bit(name, n_genes, tmp_path):
    net, x = lively(name, n_genes)
    gee_core.save(tmp_path / "a.safetensors", net)
    back = gee_core.load(tmp_path / "a.safetensors")
    assert list(back.state_dict()) == list(net.state_dict())
    assert all(torch.equal(value, back.state_dict()[key]) for key, value in net.state_dict().items())
    assert torch.equal(back.eval()(x), net(x))
    assert architecture_of(back) == architecture_of(net)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("n_genes", [4, None], ids=["genetic", "plain"])
@pytest.mark.parametrize("name", ["networks.my:VGG", "networks.my:Folded"])
def test_a_registered_network_comes_back_from_a_file_of_genes(name, n_genes, tmp_path):
    net, x = lively(name, n_genes)
    gee_core.save_genes(tmp_path / "a.safetensors", net, "fp32")
    assert torch.equal(gee_core.load(tmp_path / "a.safetensors").eval()(x), net(x))
    gee_core.save_genes(tmp_path / "a.safetensors", net, "int4")
    assert torch.isfinite(gee_core.load(tmp_path / "a.safetensors").eval()(x)).all()
    names.OWN.pop(name)
    with pytest.raises(InputError, match=f"is of your own network {name}, and no code is imported"):
        gee_core.load(tmp_path / "a.safetensors")


@pytest.mark.usefixtures("own")
def test_no_code_is_imported_because_a_file_names_it(tmp_path, monkeypatch):
    gee_core.register_network("json:JSONDecoder", VGG)
    gee_core.save(tmp_path / "a.safetensors", gee_core.build_network("json:JSONDecoder", 5, 1, 8, 4))
    names.OWN.pop("json:JSONDecoder")
    with pytest.raises(InputError) as refused:
        gee_core.load(tmp_path / "a.safetensors")
    assert str(refused.value) == (
        f"{tmp_path}/a.safetensors: is of your own network json:JSONDecoder, and no code is imported because a file names it: "
        "register it first: gee_core.register_network('json:JSONDecoder', …)"
    )


@pytest.mark.usefixtures("own")
def test_a_network_that_was_changed_since_is_refused_by_name(tmp_path):
    path = tmp_path / "a.safetensors"
    gee_core.save(path, gee_core.build_network("networks.my:VGG", 5, 1, 8, 4))
    gee_core.register_network("networks.my:VGG", OWN["networks.my:ResNet"])
    with pytest.raises(InputError, match=r"a.safetensors: does not fit the network \(.* Missing key\(s\) .*net.stem.0.weight"):
        gee_core.load(path)
    gee_core.register_network("networks.my:VGG", lambda **sizes: None)
    with pytest.raises(InputError, match=r"a.safetensors: .*networks.my:VGG returns a NoneType"):
        gee_core.load(path)

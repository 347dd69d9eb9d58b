"""Updates: the parts of a trained network that differ from a base, in a file of few bytes."""

from pathlib import Path

import pytest
import torch

import gee_core
from gee_core.errors import DivergedError, InputError
from gee_core.gene_file import LEFT_OUT, read_header
from gee_core.pretrained.files import pretrained_file
from gee_core.pretrained.shipped import load_pretrained, updated_card
from gee_core.training.optimizers import train_only
from gee_core.update_file import _folded, read_update

BASE = pretrained_file("cifarnet.cifar10")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    net = gee_core.build_network("cifarnet", num_classes=3, n_genes=6, width=0.125, image_size=16, seed=1)
    gee_core.save_genes(tmp_path / "base.safetensors", net, card={"classes": ["a", "b", "c"]})
    return tmp_path / "base.safetensors"


def adapted(base: Path, parts: list[str], seed: int = 0) -> gee_core.model.base.SpikingNetwork:
    """The network in ``base`` after some steps of training of ``parts``, with other statistics."""
    net = gee_core.load_genes(base).train()
    train_only(net, parts)
    torch.manual_seed(seed)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.rand(8, 3, 16, 16)).mean(0).square().sum().backward()
        optimizer.step()
    return net.eval()


@pytest.mark.parametrize("parts", [["O", "norm"], ["norm"], ["O"], ["head"], ["O", "norm", "head"]])
def test_an_update_makes_the_trained_network_of_its_base(base, tmp_path, parts):
    net, content, path = adapted(base, parts), base.read_bytes(), tmp_path / "a.update"
    gee_core.save_update(path, net, base)
    there = gee_core.load_genes(base, update=path).eval()
    assert read_update(path).parts == sorted({*parts, "norm"})  # statistics, which every training renews
    wanted = _folded(net)  # in which batch norms have the statistics 0 and 1
    for name, x in there.state_dict().items():
        if not name.endswith(LEFT_OUT):
            assert torch.allclose(x, wanted[name], atol=float(wanted[name].abs().max()) / 253), name
    assert base.read_bytes() == content


def test_a_new_number_of_classes_brings_a_classifier(base, tmp_path):
    net = gee_core.build_network("cifarnet", num_classes=5, n_genes=6, width=0.125, image_size=16)
    state = {name: x for name, x in gee_core.load_genes(base).state_dict().items() if not name.startswith("head.")}
    net.load_state_dict(net.state_dict() | state)
    gee_core.save_update(tmp_path / "a.update", net, base)
    there = gee_core.load_genes(base, update=tmp_path / "a.update")
    assert read_update(tmp_path / "a.update").parts == ["head"] and there.built_with.num_classes == 5
    for name, x in net.head.state_dict().items():
        assert torch.allclose(there.head.state_dict()[name], x, atol=float(x.abs().max()) / 253)


def test_ten_updates_take_five_kilobytes_each_and_their_base_stays(tmp_path):
    content = BASE.read_bytes()
    for i in range(10):
        net = load_pretrained("cifarnet.cifar10")
        torch.manual_seed(i)
        with torch.no_grad():
            net.genome.O += 0.1 * torch.randn_like(net.genome.O)
            for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
                norm.running_mean += torch.randn_like(norm.running_mean)
        card = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.247, 0.2435, 0.2616]}
        gee_core.save_update(tmp_path / f"{i}.update", net, BASE, card)
        assert (tmp_path / f"{i}.update").stat().st_size <= 5000
    assert BASE.read_bytes() == content
    updated = load_pretrained("cifarnet.cifar10", update=tmp_path / "3.update")
    assert updated.card.mean == (0.4914, 0.4822, 0.4465)
    assert updated.card.class_names == load_pretrained("cifarnet.cifar10").card.class_names


def test_bad_updates_are_one_message_each(base, tmp_path):
    path, other = tmp_path / "a.update", tmp_path / "other.safetensors"
    gee_core.save_update(path, adapted(base, ["O"]), base)
    gee_core.save_genes(other, gee_core.build_network("cifarnet", num_classes=3, n_genes=6, width=0.125, image_size=16, seed=2))
    with pytest.raises(InputError, match=r"a.update: an update of another file of genes: name the file that it was made for$"):
        gee_core.load_genes(other, update=path)
    with pytest.raises(InputError, match=r"no.update: not found: name a file that gee_core.save_update or export wrote$"):
        gee_core.load_genes(base, update=tmp_path / "no.update")
    with pytest.raises(InputError, match=r"base.safetensors: not an update: name a file"):
        gee_core.load_genes(base, update=base)
    gee_core.save_update(path, adapted(base, ["O"]), base, {"class_names": 3})
    with pytest.raises(InputError, match=r"a.update: its card does not fit that of the network"):
        updated_card(load_pretrained("cifarnet.cifar10").card, path)
    content = path.read_bytes()
    for n in (0, 7, 200, len(content) - 1):
        path.write_bytes(content[:n])
        with pytest.raises(InputError, match=r"a.update: damaged"):
            gee_core.load_genes(base, update=path)
    for place in range(len(content) - 100, len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(InputError, match=r"a.update: damaged, its checksum is another"):
            gee_core.load_genes(base, update=path)


def test_what_an_update_cannot_hold_is_refused(base, tmp_path):
    path = tmp_path / "a.update"
    net = adapted(base, ["O"])
    with torch.no_grad():
        net.genome.X_0 += 1
    with pytest.raises(ValueError, match=r"^genome.X_0 is not as in .*base.safetensors, and an update holds O, batch norm"):
        gee_core.save_update(path, net, base)
    with pytest.raises(ValueError, match=r"there is nothing to save"):
        gee_core.save_update(path, gee_core.load_genes(base), base)
    wider = gee_core.build_network("cifarnet", num_classes=3, n_genes=6, width=0.25, image_size=16)
    with pytest.raises(ValueError, match=r"is not of the architecture of"):
        gee_core.save_update(path, wider, base)
    lost = adapted(base, ["O"])
    with torch.no_grad():
        lost.genome.O[0, 0] = torch.nan
    with pytest.raises(DivergedError, match=r"genome.O holds values that are not finite"):
        gee_core.save_update(path, lost, base)
    gee_core.save(tmp_path / "net.safetensors", net)
    with pytest.raises(InputError, match=r"net.safetensors: a checkpoint, not a file of gen"):
        gee_core.save_update(path, net, tmp_path / "net.safetensors")
    with pytest.raises(InputError, match=r"net.safetensors: a checkpoint, not a file of gee_core.save_genes"):
        gee_core.load_genes(tmp_path / "net.safetensors")
    assert not path.exists() and read_header(base) is not None


def test_nothing_but_the_parts_learns(base):
    net, before = adapted(base, ["norm"]), gee_core.load_genes(base).state_dict()
    moved = {name for name, x in net.state_dict().items() if not torch.equal(x, before[name])}
    assert moved and all(".norm." in name for name in moved)
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    with pytest.raises(InputError, match=r"= \['O'\]: the network has no O: leave it out"):
        train_only(plain, ["O"])

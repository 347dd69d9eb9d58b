"""Networks on disk: what comes back is bit for bit what was saved, and anything else is refused by name."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from gee_core.checkpoint import load_network, load_tensors, save_network, save_tensors
from gee_core.config import NetworkConfig
from gee_core.data.prepared import Meta
from gee_core.errors import InputError
from gee_core.model.network import build_network, to_channels_last
from gee_core.storage.atomic_files import sha256

META = Meta(
    dataset="digits",
    source="none",
    class_names=("a", "b", "c"),
    num_classes=3,
    in_channels=3,
    image_size=8,
    mean=(0.5,) * 3,
    std=(0.2,) * 3,
    n_train=1,
    n_test=1,
    n_holdout=1,
    stream=False,
    sha256=dict.fromkeys(
        ["holdout.npy", *(f"{split}_{what}.npy" for split in ("train", "test") for what in ("images", "labels"))], ""
    ),
)


def config(**changes) -> NetworkConfig:
    values = {"name": "resnet18", "width": 1 / 32, "n_genes": 4, "T": 2, "tau": 2.0, "decay_input": True}
    values |= {"v_threshold": 0.5, "v_reset": 0.0, "detach_reset": True}
    values |= {"surrogate": "piecewise_quadratic", "surrogate_alpha": 2.0}
    return NetworkConfig(**(values | changes))


def built(network: NetworkConfig, meta: Meta = META, seed: int = 0):
    sizes = (meta.num_classes, meta.in_channels, meta.image_size)
    net = build_network(network.name, *sizes, network.n_genes, network.width, seed, **network.lif())
    return to_channels_last(net)


@pytest.fixture
def path(tmp_path) -> Path:
    """A saved network of ``config()``."""
    path = tmp_path / "network.safetensors"
    save_network(path, built(config()), config(), META)
    return path


@pytest.mark.parametrize("n_genes", [4, None], ids=["genetic", "plain"])
def test_a_network_comes_back_bit_for_bit_and_in_its_own_memory_layout(n_genes, tmp_path):
    network, path = config(n_genes=n_genes), tmp_path / "network.safetensors"
    net = built(network, seed=1)
    save_network(path, net, network, META)
    back = load_network(path, built(network, seed=2), network, META)
    assert {k: v.dtype for k, v in net.state_dict().items()} == {k: v.dtype for k, v in back.state_dict().items()}
    assert all(torch.equal(value, back.state_dict()[name]) for name, value in net.state_dict().items())
    assert back.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)
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


def test_the_same_network_gives_the_same_bytes(path, tmp_path):
    again = tmp_path / "again.safetensors"
    save_network(again, built(config()), config(), META)
    assert again.read_bytes() == path.read_bytes()
    assert again.with_suffix(".json").read_bytes() == path.with_suffix(".json").read_bytes()


def refused(path: Path, network: NetworkConfig | None = None, meta: Meta = META) -> str:
    network = network or config()
    with pytest.raises(InputError) as caught:
        load_network(path, built(network, meta), network, meta)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path.parent) in message
    assert "dvc repro" in message
    return message


def flip_bit(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[: len(d) // 2],
        lambda d: b"",
        lambda d: flip_bit(d, len(d) - 1),
        lambda d: flip_bit(d, 9),
        lambda d: d + b"0",
    ],
    ids=["truncated", "empty", "a bit of a weight", "a bit of the header", "a byte too many"],
)
def test_a_damaged_checkpoint_is_refused(damage, path):
    path.write_bytes(damage(path.read_bytes()))
    assert f"{path}: damaged" in refused(path)


@pytest.mark.parametrize("lost", [".safetensors", ".json"])
def test_a_checkpoint_without_one_of_its_files_is_refused(lost, path):
    path.with_suffix(lost).unlink()
    message = refused(path)
    assert f"{path.with_suffix(lost)}: not found" in message
    assert "`dvc pull` fetches it" in message


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"sha256": null}', "\udcff"], ids=repr)
def test_a_damaged_json_file_is_refused(text, path):
    path.with_suffix(".json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert "damaged" in refused(path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "resnet19"}, "name is 'resnet18', not 'resnet19'"),
        ({"width": 1 / 16}, "width is 0.03125, not 0.0625"),
        ({"n_genes": 5}, "n_genes is 4, not 5"),
        ({"n_genes": None}, "n_genes is 4, not None"),
        ({"T": 4}, "T is 2, not 4"),  # the same tensors: only the settings tell
        ({"v_reset": None}, "v_reset is 0.0, not None"),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_network_is_refused_and_the_difference_named(changes, named, path):
    message = refused(path, config(**changes))
    assert "a checkpoint of another network" in message
    assert named in message


@pytest.mark.parametrize(("field", "value"), [("num_classes", 4), ("in_channels", 1), ("image_size", 16)])
def test_a_checkpoint_for_other_images_is_refused(field, value, path):
    meta = META.model_copy(update={field: value})
    assert f"{field} is {getattr(META, field)}, not {value}" in refused(path, meta=meta)


def test_tensors_that_do_not_fit_the_network_are_refused(path):
    path.write_bytes(save({"stem.conv.weight": torch.zeros(1)}))
    values = json.loads(path.with_suffix(".json").read_text()) | {"sha256": sha256(path)}
    path.with_suffix(".json").write_text(json.dumps(values))
    assert "does not fit the network" in refused(path)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_pickle_in_the_place_of_a_checkpoint_is_never_executed(path, tmp_path):
    target = tmp_path / "executed"
    path.write_bytes(pickle.dumps(Bomb(target)))
    values = json.loads(path.with_suffix(".json").read_text()) | {"sha256": sha256(path)}
    path.with_suffix(".json").write_text(json.dumps(values))
    assert "damaged" in refused(path)
    assert not target.exists()

"""A training that goes on from its tensors equals one that never stopped, bit for bit."""

import pytest
import torch

from gee_core.checkpoint import load_tensors, save_tensors
from gee_core.data.augment import Normalise
from gee_core.data.images import PackedImages
from gee_core.hardware import Compute
from gee_core.model.network import build_network
from gee_core.training.loop import train_epoch
from gee_core.training.named_tensors import restore_training, training_tensors
from gee_core.training.optimizers import adamw, sgd
from gee_core.training.recipe import Recipe

# With colour, channels-last kernels lie in memory in another order than their tensors on disk. The fused optimiser walks
# memory, not indices, so moments in the wrong order would go unnoticed but for the numbers.
CASES = pytest.mark.parametrize(
    ("n_genes", "channels"), [(4, 1), (4, 3), (None, 3)], ids=["genetic, grey", "genetic, RGB", "plain, RGB"]
)


OPTIMIZERS = {
    "adamw": lambda net: adamw(net, 0.1),
    "sgd": lambda net: sgd(net, 0.1, 0.9),
    "sgd without momentum": lambda net: sgd(net, 0.1, 0.0),
}


def built(n_genes, channels, seed=0, optimizer="adamw"):
    net = build_network("resnet18", 3, channels, 8, n_genes, 1 / 32, seed, T=2)
    return net, OPTIMIZERS[optimizer](net)


def train(net, optimizer, channels, epochs):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, channels, 8, 8), generator=generator).to(torch.uint8)
    images = PackedImages(pixels, torch.arange(12) % 3)
    recipe = Recipe(
        epochs=4,
        batch_size=4,
        lr=0.01,
        lr_min=0.0,
        warmup_steps=2,
        label_smoothing=0.1,
        augment=None,
        normalise=Normalise((0.5,) * channels, (0.3,) * channels),
        compute=Compute(torch.device("cpu"), torch.float32),
        seed=0,
    )
    return [train_epoch(net, optimizer, images, recipe, epoch) for epoch in epochs]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@CASES
def test_training_that_goes_on_from_its_files_equals_training_that_never_stopped(n_genes, channels, optimizer, tmp_path):
    whole = built(n_genes, channels, optimizer=optimizer)
    records = train(*whole, channels, range(4))

    first = built(n_genes, channels, optimizer=optimizer)
    before = train(*first, channels, range(2))
    save_tensors(tmp_path / "state.safetensors", training_tensors(*first), {})
    second = built(n_genes, channels, seed=9, optimizer=optimizer)
    restore_training(*second, load_tensors(tmp_path / "state.safetensors")[0])
    after = train(*second, channels, range(2, 4))

    assert before + after == records
    expected, found = training_tensors(*whole), training_tensors(*second)
    assert set(expected) == set(found)
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_the_tensors_are_all_that_training_changes_under_plain_names():
    net, optimizer = built(4, 1)
    before = {name: value.clone() for name, value in training_tensors(net, optimizer).items()}
    assert set(before) == {f"net.{name}" for name in net.state_dict()}  # the optimiser has seen no gradient yet
    train(net, optimizer, 1, range(1))
    after = training_tensors(net, optimizer)
    n_parameters = len(list(net.parameters()))
    steps = [name for name in after if name.startswith("optimizer.") and name.endswith(".step")]
    assert sorted(steps) == sorted(f"optimizer.{index}.step" for index in range(n_parameters))
    assert len(after) == len(net.state_dict()) + 3 * n_parameters  # step and two moments each
    assert not torch.equal(after["net.genome.O"], before["net.genome.O"])


def test_tensors_of_another_network_are_not_taken():
    net, optimizer = built(4, 1)
    train(net, optimizer, 1, range(1))
    other = built(5, 1)
    with pytest.raises(RuntimeError, match="size mismatch"):
        restore_training(*other, training_tensors(net, optimizer))

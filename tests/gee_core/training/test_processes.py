"""Three processes with a part of every batch each == one process with whole batches.

Three, because unlike that of two, the sum of their gradients depends on its order.
"""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from gee_core.compute import Compute
from gee_core.data.augment import Augment, Normalise
from gee_core.data.images import PackedImages
from gee_core.errors import InputError
from gee_core.model.network import build_network
from gee_core.rank import ALONE, Rank
from gee_core.training.loop import train_epoch
from gee_core.training.optimizers import make_optimizer
from gee_core.training.processes import bare, parallel
from gee_core.training.recipe import check_images
from gee_core.training.resume import Resumable, training_tensors
from gee_core.training.statistics import whiten_stem
from tests.gee_core.processes import in_processes
from tests.gee_core.recipes import FP32, recipe, train

EPOCHS, BATCH, IMAGES = 4, 7, 33
"""Five steps per epoch, twenty in all; the last batch of an epoch has five images."""
INTEGERS = {"neuron": "ilif", "levels": 3}


def trained(
    compute: Compute, frozen: bool, folder: Path | None = None, stop: tuple[int, int] | None = None, **neurons: object
) -> tuple[dict[str, torch.Tensor], list[dict], int]:
    """All that training changed, its records, and its number of steps but for the last of each epoch; or until ``stop``.

    ``frozen`` batch norms have fixed statistics: without that, each process's are those of its own images.

    In float64: in float32, the order of a sum decides within a few steps whether some membrane reaches the threshold, and from
    the first other spike on, two runs of one process with their batches in another order differ as well.
    """
    augment = Augment(crop_padding=1, flip=True, randaugment=5, erasing=0.5, noise=0.5)
    settings = {"epochs": EPOCHS, "batch_size": BATCH, "lr": 4e-3, "label_smoothing": 0.1}
    settings |= {"norm_images": 2 * BATCH, "spike_penalty": 0.5}
    how = recipe(augment, Normalise((0.5,) * 3, (0.5,) * 3), compute, warmup_steps=3, **settings)
    pixels = torch.randint(256, (IMAGES, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    net = build_network("cifarnet", 10, 3, 16, n_genes=4, width=1 / 16, T=2, **neurons).double()
    net.register_forward_pre_hook(lambda _, args: (args[0].double(),))
    images = PackedImages(pixels, torch.arange(IMAGES) % 10)
    whiten_stem(net, images, how.normalise, 0)
    optimizer = make_optimizer("adamw", net, 0.01, 0.9)
    for norm in net.modules() if frozen else []:
        if isinstance(norm, nn.BatchNorm2d):
            norm.train(False).train = lambda mode=True, norm=norm: norm
    net = parallel(net, compute)
    states = Resumable(folder, "step", bare(net), optimizer, 5, save_seconds=0.0, rank=compute.rank)
    rows, taken = [], []
    with contextlib.suppress(KeyboardInterrupt):
        rows, taken = train(net, optimizer, images, how, states, stop)
    return {name: tensor.clone() for name, tensor in training_tensors(bare(net), optimizer).items()}, rows, len(taken)


class WithUnused(nn.Module):
    """A user's module with a layer that it never calls."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


def with_unused(compute: Compute) -> list[torch.Tensor]:
    """The gradient of its weight in each of three steps, each process's images as bright as its number, from 1."""
    net, x = parallel(WithUnused(), compute), torch.ones(4, 2) * (compute.rank.number + 1)
    gradients = []
    for _ in range(3):
        net.zero_grad()
        net(x).mean().backward()
        gradients.append(bare(net).used.weight.grad.clone())
    return gradients


def everything(compute: Compute, folder: Path) -> dict:
    """All that the tests compare, of one process; one start of the processes takes seconds."""
    return {
        "frozen": trained(compute, frozen=True),
        "integers": trained(compute, frozen=True, **INTEGERS),
        "local": trained(compute, frozen=False),
        "stopped": trained(compute, frozen=False, folder=folder, stop=(2, 3)),
        "resumed": trained(compute, frozen=False, folder=folder),
        "unused": with_unused(compute),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("states")


@pytest.fixture(scope="module")
def three(tmp_path_factory, folder):
    return in_processes(3, everything, tmp_path_factory.mktemp("processes"), folder)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "neurons"), [("frozen", {}), ("integers", INTEGERS)])
def test_twenty_steps_end_at_the_weights_of_one_process(three, name, neurons):
    weights, rows, _ = trained(FP32, frozen=True, **neurons)
    for found, found_rows, _ in (process[name] for process in three):
        assert max((found[key] - weights[key]).abs().max() for key in weights if key.startswith("net.")) < 1e-6
        torch.testing.assert_close([r["train_loss"] for r in found_rows], [r["train_loss"] for r in rows], atol=1e-6, rtol=0)
        assert [r["train_accuracy"] for r in found_rows] == [r["train_accuracy"] for r in rows]


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bytes_in_as_many_processes_alone(three, folder):
    whole, rows, taken = three[0]["local"]
    assert not torch.equal(whole["net.genome.O"], three[0]["frozen"][0]["net.genome.O"])
    assert (taken, three[0]["resumed"][2]) == (EPOCHS * 4, 1 + 4)  # it stopped after the third step of the third epoch
    for found, again, _ in (process[name] for process in three for name in ("local", "resumed")):
        assert again == rows
        assert [name for name, tensor in whole.items() if not torch.equal(found[name], tensor)] == []
    with pytest.raises(InputError, match=r"3 processes began this training run, which 1 cannot.*: start 3, or delete"):
        trained(FP32, frozen=False, folder=folder)


@pytest.mark.slow
def test_a_module_may_hold_layers_that_it_does_not_use(three):
    for process in three:
        assert all(torch.equal(gradient, torch.full((1, 2), 2.0)) for gradient in process["unused"])


@pytest.mark.parametrize("of", [1, 3])
def test_shares_are_all_images_once(of):
    images = PackedImages(torch.zeros(IMAGES, 1, 1, 1, dtype=torch.uint8), torch.arange(IMAGES))
    shares = [
        [labels for _, labels in images.batches(BATCH, torch.Generator().manual_seed(1), 1, Rank(number, of))]
        for number in range(of)
    ]
    whole = [labels for _, labels in images.batches(BATCH, torch.Generator().manual_seed(1), 1)]
    assert [torch.cat(parts).tolist() for parts in zip(*shares, strict=True)] == [labels.tolist() for labels in whole]
    assert Rank(0, 1) == ALONE


@pytest.mark.parametrize(("n", "smallest"), [(3, 3), (11, 4)])
def test_fewer_images_in_a_batch_than_processes_are_refused_before_the_first_step(n, smallest):
    check_images(n, BATCH, Rank(0, smallest))
    images = PackedImages(torch.zeros(n, 1, 1, 2, dtype=torch.uint8), torch.zeros(n).long())
    how = recipe(batch_size=BATCH, compute=replace(FP32, rank=Rank(1, smallest + 1)))
    told = rf"^{smallest + 1} processes: {n} training images in batches of {BATCH} .*: start {smallest} or fewer"
    net = WithUnused()
    with pytest.raises(InputError, match=told):
        train_epoch(net, torch.optim.SGD(net.parameters()), images, how, 0)

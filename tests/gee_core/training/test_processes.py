"""Three processes with a part of every batch each == one process with whole batches.

Three, because unlike that of two, the sum of their gradients depends on its order.
"""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import nn

from gee_core.data.augment import Augment, Normalise
from gee_core.data.images import PackedImages
from gee_core.errors import InputError
from gee_core.hardware import Compute
from gee_core.model.network import build_network
from gee_core.rank import ALONE, Rank
from gee_core.snn import kernels
from gee_core.snn.synced_norm import SyncedBatchNorm2d, sync_batch_norms
from gee_core.training.loop import train_epoch
from gee_core.training.optimizers import make_optimizer
from gee_core.training.processes import bare, parallel
from gee_core.training.recipe import check_images
from gee_core.training.resume import Resumable, training_tensors
from gee_core.training.statistics import whiten_stem
from tests.gee_core.processes import in_processes
from tests.gee_core.recipes import FP32, recipe, train
from tests.gee_core.snn.test_norm_lif import CALLS, B, T, draw, lively

EPOCHS, BATCH, IMAGES = 4, 7, 33
"""Five steps per epoch, twenty in all; the last batch of an epoch has five images."""
INTEGERS = {"neuron": "ilif", "levels": 3}


def share(drawn: torch.Tensor, images: slice) -> torch.Tensor:
    """Those of ``images`` of (rows * B, …)."""
    return drawn.unflatten(0, (-1, B))[:, images].flatten(0, 1).contiguous(memory_format=torch.channels_last)


def passes(compute: Compute, name: str) -> dict[str, list[torch.Tensor]]:
    """What an entry of ``CALLS`` makes of this process's images, and the gradients of inputs and parameters."""
    call, *rows = CALLS[name]
    module, images = lively().train(), compute.rank.share(B)  # each has one of the three images
    if compute.rank.of > 1:
        sync_batch_norms(module)
        assert isinstance(module.norm, SyncedBatchNorm2d)
    inputs = [share(draw(n, seed), images).requires_grad_() for seed, n in enumerate(rows)]
    outputs = call(module, *inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    torch.autograd.backward(outputs, [share(draw(T * B, 9 + i), images) for i in range(len(outputs))])
    n = images.stop - images.start
    return {
        "by image": [t.detach().unflatten(0, (-1, n)) for t in [*outputs, *(x.grad for x in inputs if x.grad is not None)]],
        "gradients": [p.grad for p in module.parameters()],
        "statistics": list(module.norm.buffers()),
    }


def both_ways(compute: Compute) -> dict[tuple[str, bool], dict]:
    """``passes`` by the name of the call and whether the loops of the fused layer run, which are not compiled here."""
    results = {}
    before = kernels._compiles[:], kernels.WORTH_COMPILING, kernels._compiled
    try:
        kernels.WORTH_COMPILING, kernels._compiled = 0, lambda loop, on_gpu: loop
        for fused in (True, False):
            kernels._compiles[:] = [fused]
            results |= {(name, fused): passes(compute, name) for name in CALLS}
    finally:
        kernels._compiles[:], kernels.WORTH_COMPILING, kernels._compiled = before
    return results


def trained(
    compute: Compute, sync: bool, folder: Path | None = None, stop: tuple[int, int] | None = None, **neurons: object
) -> tuple[dict[str, torch.Tensor], list[dict], int]:
    """All that training changed, its records, and its number of steps but for the last of each epoch; or until ``stop``.

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
    net = parallel(net, compute, sync)
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
        "passes": both_ways(compute),
        "synced": trained(compute, sync=True),
        "integers": trained(compute, sync=True, **INTEGERS),
        "local": trained(compute, sync=False),
        "stopped": trained(compute, sync=False, folder=folder, stop=(2, 3)),
        "resumed": trained(compute, sync=False, folder=folder),
        "unused": with_unused(compute),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("states")


@pytest.fixture(scope="module")
def three(tmp_path_factory, folder):
    return in_processes(3, everything, tmp_path_factory.mktemp("processes"), folder)


@pytest.mark.slow
def test_synced_batch_norm_sees_the_images_of_all(three):
    for key, whole in both_ways(FP32).items():
        found = [process["passes"][key] for process in three]
        parts = zip(*(each["by image"] for each in found), strict=True)
        torch.testing.assert_close([torch.cat(part, 1) for part in parts], whole["by image"], atol=2e-6, rtol=1e-5)
        sums = [sum(part) for part in zip(*(each["gradients"] for each in found), strict=True)]
        torch.testing.assert_close(sums, whole["gradients"], atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(found[0]["statistics"], whole["statistics"], atol=2e-6, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "neurons"), [("synced", {}), ("integers", INTEGERS)])
def test_twenty_steps_end_at_the_weights_of_one_process(three, name, neurons):
    weights, rows, _ = trained(FP32, sync=True, **neurons)
    for found, found_rows, _ in (process[name] for process in three):
        assert max((found[key] - weights[key]).abs().max() for key in weights if key.startswith("net.")) < 1e-6
        torch.testing.assert_close([r["train_loss"] for r in found_rows], [r["train_loss"] for r in rows], atol=1e-6, rtol=0)
        assert [r["train_accuracy"] for r in found_rows] == [r["train_accuracy"] for r in rows]


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bytes_in_as_many_processes_alone(three, folder):
    whole, rows, taken = three[0]["local"]
    assert not torch.equal(whole["net.genome.O"], three[0]["synced"][0]["net.genome.O"])
    assert (taken, three[0]["resumed"][2]) == (EPOCHS * 4, 1 + 4)  # it stopped after the third step of the third epoch
    for found, again, _ in (process[name] for process in three for name in ("local", "resumed")):
        assert again == rows
        assert [name for name, tensor in whole.items() if not torch.equal(found[name], tensor)] == []
    with pytest.raises(InputError, match=r"3 processes began this training run, which 1 cannot.*: start 3, or delete"):
        trained(FP32, sync=False, folder=folder)


def test_one_process_synchronises_batch_norms_too():
    assert type(parallel(nn.BatchNorm2d(3), FP32)) is nn.BatchNorm2d
    net = parallel(nn.BatchNorm2d(3), FP32, sync_batch_norm=True)
    assert type(net) is SyncedBatchNorm2d
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    reference = x.detach().clone().requires_grad_()
    ys = net(x), nn.functional.batch_norm(reference, None, None, training=True)
    torch.testing.assert_close(*ys)
    for y in ys:
        y.pow(3).sum().backward()
    torch.testing.assert_close(x.grad, reference.grad, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        net(x[:1, :, :1, :1])


@pytest.mark.parametrize(("norm", "name"), [(layer.BatchNorm2d(1), "BatchNorm2d"), (nn.BatchNorm3d(1), "BatchNorm3d")])
def test_a_batch_norm_that_cannot_be_synchronised_is_an_input_error_that_names_it(norm, name):
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Sequential(norm))
    told = rf"^sync_batch_norm: the batch norm 1\.0 is a {name}, which .*: set it to false, or"
    with pytest.raises(InputError, match=told):
        parallel(net, replace(FP32, rank=Rank(0, 2)), sync_batch_norm=True)
    assert type(net[0]) is nn.BatchNorm2d


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

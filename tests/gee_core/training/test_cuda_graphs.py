"""A network whose passes are CUDA graphs trains as it does without them. The graphs are simulated; tests/cuda has real ones."""

import gc
import weakref
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from gee_core.data.augment import Augment, Normalise
from gee_core.data.images import PackedImages, StreamedImages
from gee_core.errors import InputError
from gee_core.hardware import Compute
from gee_core.model.network import build_network
from gee_core.rank import Rank
from gee_core.training import processes
from gee_core.training.cuda_graphs import GraphedNetwork, ungraphed
from gee_core.training.loop import train_epoch
from gee_core.training.named_tensors import training_tensors
from gee_core.training.optimizers import make_optimizer
from gee_core.training.processes import bare, parallel
from gee_core.training.recipe import Recipe
from tests.gee_core.training.simulated_graphs import Captures

CPU = Compute(torch.device("cpu"), torch.float32)
GPU = Compute(torch.device("cuda"), torch.float32)
RECIPE = Recipe(
    epochs=3,
    batch_size=8,
    lr=0.01,
    lr_min=0.0,
    warmup_steps=2,
    label_smoothing=0.1,
    augment=Augment(crop_padding=1, flip=True, randaugment=0, erasing=0.0),
    normalise=Normalise((0.5,) * 3, (0.3,) * 3),
    compute=CPU,
    seed=0,
)


@pytest.fixture
def captures(monkeypatch):
    found = Captures()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", found)
    return found


def network(dropout: float = 0.0) -> nn.Module:
    net = build_network("cifarnet", 3, 3, 16, 4, 1 / 32, 0, T=2)
    if dropout:
        net.head.insert(0, nn.Dropout(dropout))
    return net


def images(n: int = 28) -> PackedImages:
    """Three batches of 8 and a last one of 4."""
    pixels = torch.randint(0, 256, (n, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return PackedImages(pixels, torch.arange(n) % 3)


def trained(recipe: Recipe, graphs: bool, **options) -> tuple[list[dict], dict[str, torch.Tensor]]:
    net = network(**options)
    optimizer = make_optimizer("adamw", net, 0.1, 0.9)
    model = GraphedNetwork(net) if graphs else net
    rows = [asdict(train_epoch(model, optimizer, images(), recipe, epoch)) for epoch in range(recipe.epochs)]
    return rows, training_tensors(net, optimizer)


CHANGES = {
    "one form": {},
    "sizes": {"sizes": (8, 12, 16)},
    "T": {"T_schedule": (1, 1, 2)},
    "tet": {"loss": "tet", "tet_lambda": 0.1},
    "statistics anew": {"norm_images": 16},
    "rounded genes": {"quantise_bits": 4, "quantise_epochs": 1},
    "bf16": {"compute": Compute(torch.device("cpu"), torch.bfloat16)},
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_run_with_graphs_has_the_bits_of_one_without(name, dropout, captures):
    recipe = replace(RECIPE, **CHANGES[name])
    (rows, tensors), (again, found) = (trained(recipe, graphs, dropout=dropout) for graphs in (False, True))
    if name != "bf16":  # there, gradients of what is cast twice are summed in another order
        assert again == rows
        assert all(torch.equal(found[key], tensors[key]) for key in tensors)
    else:
        assert [row["train_loss"] for row in again] == pytest.approx([row["train_loss"] for row in rows], rel=0.1)
    assert captures.shapes


def test_a_form_is_captured_once_at_its_second_batch_in_a_row_and_an_odd_last_batch_never(captures):
    trained(replace(RECIPE, sizes=(8, 16, 16)), True)
    assert captures.shapes == [(8, 3, 8, 8), (8, 3, 16, 16)]


def test_the_numbers_of_the_capture_leave_no_trace(captures):
    net = network(dropout=0.5).train()
    graphed, x = GraphedNetwork(net), torch.randn(4, 3, 16, 16)
    graphed(x)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    torch.manual_seed(1)
    expected = net(x).detach()
    statistics = {name: buffer.clone() for name, buffer in net.named_buffers()}
    for name, buffer in net.named_buffers():
        buffer.copy_(before[name])
    torch.manual_seed(1)
    assert torch.equal(graphed(x).detach(), expected)
    assert captures.shapes == [(4, 3, 16, 16)]
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in net.named_buffers())
    assert all(p.grad is None for p in net.parameters())


def accumulators(net: nn.Module) -> list:
    """The nodes of autograd that add up the gradients of each parameter; a new one where no graph holds an earlier one."""
    return [p.view_as(p).grad_fn.next_functions[0][0] for p in net.parameters()]


def test_no_graph_of_an_earlier_step_is_alive_at_the_capture(captures, monkeypatch):
    net, alive = network(), []

    def mark(*_) -> None:
        for node in accumulators(net):
            node.metadata["seen"] = True

    net.register_forward_hook(mark)
    assert not any("seen" in node.metadata for node in accumulators(net))
    o = net(torch.zeros(2, 3, 16, 16))
    assert all("seen" in node.metadata for node in accumulators(net))
    del o

    def capture(module, *args, **options):
        alive.extend("seen" in node.metadata for node in accumulators(net))
        return captures(module, *args, **options)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    train_epoch(GraphedNetwork(net), make_optimizer("adamw", net, 0.1, 0.9), images(), RECIPE, 0)
    assert alive and not any(alive)


def test_streamed_images_run_without_graphs(captures):
    class Streamed(StreamedImages):
        def __init__(self):
            self.images = images()

        def __len__(self):
            return len(self.images)

        def batches(self, *args):
            return self.images.batches(*args)

    net = network()
    train_epoch(GraphedNetwork(net), make_optimizer("adamw", net, 0.1, 0.9), Streamed(), RECIPE, 0)
    assert captures.shapes == []


def test_evaluation_runs_the_network_itself(captures):
    graphed, x = GraphedNetwork(network()), torch.randn(4, 3, 16, 16)
    graphed.eval()
    outputs = [graphed(x) for _ in range(3)]
    graphed.train()
    with torch.no_grad():
        outputs += [graphed(x) for _ in range(3)]
    assert captures.shapes == []
    assert all(o.shape == (2, 4, 3) for o in outputs)


def test_a_graph_is_gone_with_its_network_at_once(captures):
    net = network().train()
    graphed = GraphedNetwork(net)
    for _ in range(2):
        graphed(torch.randn(4, 3, 16, 16))
    gc.disable()
    try:
        gone = weakref.ref(graphed._captured[1])
        graphed(torch.randn(2, 3, 16, 16))
        assert gone() is not None
        graphed(torch.randn(2, 3, 16, 16))
        assert gone() is None
    finally:
        gc.enable()
    assert captures.shapes == [(4, 3, 16, 16), (2, 3, 16, 16)]


NOT_CAPTURED = r"^GEE_CUDA_GRAPHS = 1: \w+ cannot be captured as a CUDA graph \(operation not permitted\): unset it$"


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (RuntimeError("operation not permitted"), InputError, NOT_CAPTURED),
        (torch.OutOfMemoryError("full"), torch.OutOfMemoryError, "^full$"),
    ],
)
def test_a_network_that_cannot_be_captured_is_named_and_full_memory_is_not_blamed_on_it(error, raised, message, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
    graphed, x = GraphedNetwork(network().train()), torch.randn(4, 3, 16, 16)
    graphed(x)
    with pytest.raises(raised, match=message):
        graphed(x)


def test_only_a_single_process_on_a_gpu_uses_graphs_and_only_where_it_is_told_to(monkeypatch):
    net = network()
    assert parallel(net, GPU) is net
    monkeypatch.setenv("GEE_CUDA_GRAPHS", "1")
    assert parallel(net, CPU) is net
    graphed = parallel(net, GPU)
    assert isinstance(graphed, GraphedNetwork)
    assert bare(graphed) is ungraphed(graphed) is net
    assert ungraphed(net) is net
    monkeypatch.setattr(processes, "DistributedDataParallel", lambda net, **options: net)
    assert parallel(net, replace(GPU, rank=Rank(1, 2))) is net

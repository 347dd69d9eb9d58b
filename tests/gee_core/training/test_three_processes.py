"""Three processes: unlike that of two, the sum of their gradients depends on its order."""

import contextlib
from pathlib import Path

import pytest
import torch

from gee_core.data.images import PackedImages
from gee_core.errors import InputError
from gee_core.hardware import Compute
from gee_core.model.network import build_network
from gee_core.training.loop import MidEpochState, train_epoch
from gee_core.training.optimizers import make_optimizer
from gee_core.training.processes import parallel
from gee_core.training.resume import Resumable, training_tensors
from tests.gee_core.processes import in_processes
from tests.gee_core.recipes import FP32, recipe

pytestmark = pytest.mark.slow  # because of what the start of three processes takes

N_STEPS = 4


def trained(compute: Compute, folder: Path | None = None, stop: int | None = None) -> dict[str, torch.Tensor]:
    """All that an epoch changed, or the part of one that ends after step ``stop``."""
    n, generator = 9 * N_STEPS, torch.Generator().manual_seed(0)
    images = PackedImages(torch.randint(2, (n, 3, 8, 8), dtype=torch.uint8, generator=generator), torch.arange(n) % 10)
    net = build_network("cifarnet", 10, 3, 8, n_genes=4, width=1 / 16, T=1)
    optimizer = make_optimizer("adamw", net, 0.0)
    states = Resumable(folder, "step", net, optimizer, N_STEPS, save_seconds=0.0, rank=compute.rank)
    *_, mid_epoch = states.restore()
    keep = states.periodic_saver(0, [])

    def on_step(state: MidEpochState) -> None:
        keep(state)
        if state.step == stop:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        train_epoch(parallel(net, compute), optimizer, images, recipe(batch_size=9, compute=compute), 0, mid_epoch, on_step)
    return {name: tensor.clone() for name, tensor in training_tensors(net, optimizer).items()}


def every_way(compute: Compute, folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    states = folder / "states"
    states.mkdir(exist_ok=True)
    return {"whole": trained(compute), "stopped": trained(compute, states, stop=2), "resumed": trained(compute, states)}


def test_a_stopped_run_goes_on_to_the_same_bytes_in_as_many_processes_alone(tmp_path):
    for process in in_processes(3, every_way, tmp_path, tmp_path):
        whole, stopped, resumed = process["whole"], process["stopped"], process["resumed"]
        assert not torch.equal(stopped["net.genome.O"], whole["net.genome.O"])
        assert [name for name, tensor in whole.items() if not torch.equal(resumed[name], tensor)] == []
    told = r"states: 3 processes began this training run, which 1 cannot.*: start 3, or delete"
    with pytest.raises(InputError, match=told):
        trained(FP32, tmp_path / "states")

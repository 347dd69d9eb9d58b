"""How far the weights of several processes are from those of one, step by step. On a CPU, in float32, one thread each.

    python -m benchmarks.processes_agree [--preset digits] [--data FOLDER] [--seeds 8] [--steps 20] [--processes 2] [--json]

The training of the preset begins as one process and as several with the same whole batches and `train.sync_batch_norm: true`,
at the analytic wiring, in the first epoch. Printed for each seed: ``difference``, the largest of a parameter after the last
step; ``equal_steps``, the number of steps before one ends above 1e-5. ``within`` is the number of seeds without such a step.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

from benchmarks.arguments import positive_int
from benchmarks.machine import cpu_name
from gee_core.config import Params
from gee_core.data.prepared import Prepared, load_prepared
from gee_core.hardware import Compute
from gee_core.model.wired import wired_network
from gee_core.rank import ALONE, Rank
from gee_core.storage.atomic_files import write_json
from gee_core.storage.json_object import read_json_object
from gee_core.training.loop import MidEpochState, train_epoch
from gee_core.training.optimizers import make_optimizer
from gee_core.training.processes import parallel
from pipelines import prepare
from pipelines.project.presets import load_preset
from pipelines.train import full_recipe, training_images

NEAR = 1e-5
"""Difference of a parameter up to which two runs count as one."""


class LastStepError(Exception):
    """Ends an epoch before its end."""


def weights_by_step(params: Params, data: Prepared, seed: int, steps: int, compute: Compute) -> list[list[Tensor]]:
    """The parameters after each of the first ``steps`` steps."""
    params = params.model_copy(update={"base": params.base.model_copy(update={"seed": seed})})
    net, cfg, images = wired_network(params.network, data.meta, None, seed), params.train, training_images(params.train, data)
    optimizer = make_optimizer(cfg.optimizer, net, cfg.weight_decay, cfg.momentum)
    model, found = parallel(net, compute, sync_batch_norm=True), []

    def on_step(state: MidEpochState) -> None:
        found.append([p.detach().clone() for p in net.parameters()])
        if state.step == steps:
            raise LastStepError

    try:
        train_epoch(model, optimizer, images, full_recipe(params, data.meta.normalise, compute, len(images)), 0, None, on_step)
    except LastStepError:
        return found
    raise SystemExit(f"an epoch of the preset has {len(found) + 1} steps: set --steps to {len(found)} or less")


def process(number: int, arguments: argparse.Namespace, params: Params, folder: Path) -> None:
    """One of the processes; the first leaves in ``folder`` what is printed, without the machine."""
    torch.set_num_threads(1)
    rank, data = Rank(number, arguments.processes), load_prepared(folder / "prepared")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=rank.of)
    together = Compute(torch.device("cpu"), torch.float32, rank)
    several = [weights_by_step(params, data, seed, arguments.steps, together) for seed in range(arguments.seeds)]
    dist.barrier()
    dist.destroy_process_group()
    if number == 0:
        alone = replace(together, rank=ALONE)
        one = [weights_by_step(params, data, seed, arguments.steps, alone) for seed in range(arguments.seeds)]
        write_json(folder / "found.json", compare(one, several))


def compare(one: list[list[list[Tensor]]], several: list[list[list[Tensor]]]) -> dict:
    """What is printed of the parameters by seed and step, in one process and in several."""
    differences, equal_steps = [], []
    for runs in zip(one, several, strict=True):
        steps = [max(float((a - b).abs().max()) for a, b in zip(*pair, strict=True)) for pair in zip(*runs, strict=True)]
        differences.append(float(f"{steps[-1]:.1e}"))
        equal_steps.append(next((step for step, value in enumerate(steps) if value > NEAR), len(steps)))
    within = sum(steps == len(run) for steps, run in zip(equal_steps, one, strict=True))
    return {"difference": differences, "equal_steps": equal_steps, "within": within}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="digits")
    parser.add_argument("--data", help="the preset's prepare.path")
    parser.add_argument("--seeds", type=positive_int, default=8)
    parser.add_argument("--steps", type=positive_int, default=20)
    parser.add_argument("--processes", type=positive_int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    params = load_preset(arguments.preset, arguments.data).params
    with tempfile.TemporaryDirectory() as folder:
        prepare.run(params.prepare, Path(folder) / "prepared")
        start_processes(process, (arguments, params, Path(folder)), nprocs=arguments.processes, start_method="spawn")
        found = read_json_object(Path(folder) / "found.json")
    found |= {"settings": vars(arguments), "machine": {"cpu": cpu_name(), "torch": torch.__version__}}
    print(json.dumps(found) if arguments.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

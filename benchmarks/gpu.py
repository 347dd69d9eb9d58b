"""The measurements on a GPU, in one go: training steps, candidates side by side, a training run.

    python -m benchmarks.gpu [--minutes 8] [--device cpu] [--json]

    training_step  ResNet-19 and CIFARNet with 100 genes, batch 128, forward and backward, bf16 autocast, channels-last:
                   genetic, plain, SpikingJelly's neurons in the implementation that SJ_LIF_CUDA_IMPLEMENTATION names, the
                   convolutions alone. Medians of interleaved rounds, as images per second and ratios
    candidates     candidates per hour (CIFARNet, 4,096 images, two epochs) with 1, 2, 4 and 8 processes side by side
    training       CIFARNet with 100 genes, the recipe of the preset cifar10-paper without RandAugment, whose hundreds of small
                   operations would hide the rest: images per second and peak memory, until the minutes are over

The images are noise of the size of CIFAR-10. A part that fails leaves its reason, and the others run. --device cpu rehearses
all of it at a tiny size, whose numbers mean nothing. A bare machine needs torch with CUDA, torchvision, and `pip install numpy
pillow pydantic pydantic-settings safetensors psutil ruamel.yaml rich loguru tqdm`, and SpikingJelly with `--no-deps`.
"""

import argparse
import contextlib
import gc
import json
import multiprocessing
import platform
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.training_step import make_step, medians, synchronised
from gee_core.compute import Compute
from gee_core.config import Params
from gee_core.data.images import PackedImages
from gee_core.data.prepared import Prepared, Source, load_prepared, write_prepared
from gee_core.errors import in_short
from gee_core.evolution.candidate import Candidate, ProxyTask
from gee_core.genome.genotype import configured_genotype
from gee_core.model.wired import largest_activation, wired_network
from gee_core.seeding import derive_seed
from gee_core.settings import keep_freed_memory
from gee_core.snn.kernels import long_run
from gee_core.training.loop import MidEpochState, train_epoch
from gee_core.training.recipe import full_recipe
from pipelines.project.params import check_params, override_values
from pipelines.project.presets import load_preset

CONTENDERS = ("genetic", "plain", "spikingjelly_best", "conv_floor")
PER_PROCESS = 3
"""Candidates of each process that are timed after its first, in which it starts and compiles."""
WARM_UP = 3
"""Steps of the training run that are not timed."""


class Sizes(NamedTuple):
    """How large everything is: cases of `training_step`, processes side by side, images of noise, changes to the preset."""

    cases: dict[str, dict]
    counts: tuple[int, ...]
    n_images: int
    changes: Mapping[str, object]


CIFARNET = {"network.name": "cifarnet", "network.block": None, "train.randaugment": 0}
SMALL = {"network.width": 1 / 32, "network.n_genes": 4, "train.epochs": 1, "train.batch_size": 8, "train.warmup_epochs": 0}
FULL = Sizes(
    cases={name: {"name": name, "width": 1.0, "n_genes": 100, "batch": 128} for name in ("resnet19", "cifarnet")},
    counts=(1, 2, 4, 8),
    n_images=50_000,
    changes=CIFARNET | {"evolve.proxy.images": 4096},
)
TINY = Sizes(
    cases={"cifarnet": {"name": "cifarnet", "width": 1 / 32, "n_genes": 4, "batch": 2}},
    counts=(2,),
    n_images=100,
    changes=CIFARNET | SMALL | {"evolve.proxy.images": 16, "evolve.proxy.batch_size": 8, "evolve.proxy.epochs": 1},
)
ROUNDS, REPEATS = 5, 3
"""Rounds of all contenders in turn, and steps between two synchronisations."""


def make_timed_step(case: dict, name: str, device: str) -> Callable[[], object]:
    """``REPEATS`` steps of a contender, and the wait for the device."""
    step = make_step(case, name, device)

    def steps() -> None:
        for _ in range(REPEATS):
            step()

    return synchronised(steps, device)


def time_steps(case: dict, device: str) -> dict:
    """Images per second of every contender, ratios, on a GPU the memory of a step, and why a contender is left out."""
    steps, memory, left_out = {}, {}, {}
    for name in CONTENDERS:
        gc.collect()  # of a contender that is left out: circles keep a GPU's memory
        try:
            step = make_timed_step(case, name, device)
            before = torch.cuda.memory_allocated() if device == "cuda" else 0
            step()  # compiles
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
                step()
                memory[name] = round((torch.cuda.max_memory_allocated() - before) / 2**20)
            steps[name] = step
        except Exception as error:  # Triton's derive from nothing else
            left_out[name] = f"{type(error).__name__}: {in_short(error)}"
    seconds = {name: value / REPEATS for name, value in medians(steps, ROUNDS).items()}
    rates = {name: round(case["batch"] / value, 1) for name, value in seconds.items()}
    genetic = seconds.get("genetic", float("nan"))
    ratios = {f"{name}_over_genetic": round(value / genetic, 3) for name, value in seconds.items() if name != "genetic"}
    return {"images_per_second": rates, "memory_mib": memory, "left_out": left_out} | ratios


def write_noise(folder: Path, n: int) -> Prepared:
    """``n`` images of noise of CIFAR-10's size, prepared in ``folder``."""
    pixels = torch.randint(0, 256, (n, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = PackedImages(pixels, torch.arange(n) % 10)
    source = Source("random", tuple(map(str, range(10))), images, images.subset(torch.arange(10)), torch.arange(n // 10))
    write_prepared(folder, "cifar10", source, mean=(0.5,) * 3, std=(0.3,) * 3)
    return load_prepared(folder)


def score_candidate(task: ProxyTask, candidate: Candidate) -> str:
    """The status of a candidate, in a worker process."""
    from gee_core.evolution.proxy import score

    return score(task, candidate).status


def candidates_per_hour(params: Params, prepared: Path, count: int) -> dict:
    """Candidates per hour with ``count`` processes side by side, from the first candidate of each to the last."""
    task = ProxyTask(prepared.absolute(), params.base, params.network, params.evolve)
    genotype, ends = configured_genotype(params.network), list[float]()
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        jobs = [Candidate(0, index, index, genotype) for index in range(count * (1 + PER_PROCESS))]
        for done in as_completed([pool.submit(score_candidate, task, job) for job in jobs]):
            if (status := done.result()) != "ok":
                raise RuntimeError(status)
            ends.append(time.monotonic())
    return {"per_hour": round(3600 * (len(ends) - count) / (ends[-1] - ends[count - 1]), 1), "timed": len(ends) - count}


class _TimeUpError(Exception):
    """Ends an epoch."""


def train(params: Params, data: Prepared, deadline: float) -> dict:
    """Train until ``deadline``, of ``time.monotonic``, or to the end: images per second and peak MiB of the GPU's memory."""
    compute = Compute.of(params.base.device, params.base.precision)
    net = wired_network(params.network, data.meta, None, 0).to(compute.device)
    images, steps, start = data.train.to(compute.device), 0, 0.0
    seed = derive_seed(params.base.seed, "train")
    recipe = full_recipe(params.train, data.meta.normalise, compute, len(images), seed, params.network.v_threshold)
    optimizer = recipe.begin(net, images)

    def seconds() -> float:
        if compute.device.type == "cuda":
            torch.cuda.synchronize()
        return time.monotonic()

    def on_step(state: MidEpochState) -> None:
        nonlocal steps, start
        steps += 1
        if steps == WARM_UP:
            start = seconds()
        elif steps > WARM_UP and time.monotonic() > deadline:
            raise _TimeUpError

    with (
        long_run(largest_activation(params.network, data.meta, len(images) * recipe.cfg.epochs)),
        contextlib.suppress(_TimeUpError),
    ):
        for epoch in range(recipe.cfg.epochs):
            train_epoch(net, optimizer, images, recipe, epoch, None, on_step)
    timed = (steps - WARM_UP) * recipe.cfg.batch_size  # without the last steps of epochs, which is on the safe side
    peak = round(torch.cuda.max_memory_allocated() / 2**20) if compute.device.type == "cuda" else None
    return {"images_per_second": round(timed / (seconds() - start), 1), "peak_mib": peak}


def attempt(measure: Callable[[], dict]) -> dict:
    """The result of ``measure``, or why it failed: the other parts run all the same. A traceback goes to stderr."""
    try:
        return measure()
    except Exception as error:
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {in_short(error)}"}
    finally:
        gc.collect()
        torch.cuda.empty_cache()  # leaves a GPU's memory to other processes


def run(device: str, sizes: Sizes, minutes: float, folder: Path) -> dict[str, dict]:
    """All parts, in order, with images in ``folder``."""
    deadline = time.monotonic() + 60 * minutes
    values = override_values(load_preset("cifar10-paper").values, {**sizes.changes, "base.device": device}, "benchmarks.gpu")
    params = check_params(values, "benchmarks.gpu")
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU"
    found: dict[str, dict] = {"about": {"device": name, "torch": torch.__version__}}
    for case, values in sizes.cases.items():
        found[f"training_step, {case}"] = attempt(partial(time_steps, values, device))
    prepared = write_noise(folder, sizes.n_images)
    for count in sizes.counts:
        found[f"candidates, {count} processes"] = attempt(partial(candidates_per_hour, params, folder, count))
    found["training"] = attempt(partial(train, params, prepared, deadline))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="after which the training run ends")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("benchmarks.gpu: torch sees no CUDA device: `--device cpu` rehearses the command at a tiny size")
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        sizes = FULL if arguments.device == "cuda" else TINY
        found = run(arguments.device, sizes, arguments.minutes, Path(folder) / "prepared")
    for part, values in found.items():
        print(f"\n{part}\n" + "\n".join(f"  {key:34} {value}" for key, value in values.items()))
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

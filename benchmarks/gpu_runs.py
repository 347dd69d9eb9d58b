"""Parts `candidates` and `training` of ``benchmarks.gpu``: an evolution's candidates side by side, and a long training run."""

import time
from concurrent.futures import BrokenExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from gee_core.config import Params
from gee_core.data.images import PackedImages
from gee_core.data.prepared import Prepared, Source, load_prepared, write_prepared
from gee_core.evolution.candidate import Candidate, Score
from gee_core.evolution.proxy_task import ProxyTask
from gee_core.genome.genotype import configured_genotype
from gee_core.hardware import Compute
from gee_core.model.wired import largest_activation, wired_network
from gee_core.seeding import derive_seed
from gee_core.snn.kernels import long_run
from gee_core.training.loop import MidEpochState, train_epoch
from gee_core.training.processes import parallel
from gee_core.training.recipe import images_per_epoch, steps_per_epoch
from gee_core.training.resume import Resumable
from pipelines import prepare
from pipelines.engines.pools import Processes, run_each
from pipelines.train import full_recipe

PER_PROCESS = 3
"""Candidates of each process that are timed, if there is time, after its first, in which it starts and compiles."""
WARM_UP = 3
"""Steps of a training run that are not timed."""


def prepared_images(folder: Path, params: Params, data: str | None, n_random: int) -> Prepared:
    """CIFAR-10 in ``data``, or ``n_random`` images of noise of its size, prepared in ``folder`` at the first call.

    Raises:
        InputError: the images in ``data`` are missing or damaged.
    """
    if not folder.is_dir():
        if data is None:
            pixels = torch.randint(0, 256, (n_random, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
            images = PackedImages(pixels, torch.arange(n_random) % 10)
            names = tuple(str(number) for number in range(10))
            source = Source("random", names, images, images.subset(torch.arange(10)), torch.arange(n_random // 10))
            write_prepared(folder, "cifar10", source, mean=(0.5,) * 3, std=(0.3,) * 3)
        else:
            prepare.run(params.prepare.model_copy(update={"path": data}), folder)
    return load_prepared(folder)


def score_candidate(task: ProxyTask, candidate: Candidate) -> Score:
    """The score of a candidate, in a worker process."""
    from gee_core.evolution.proxy import score

    return score(task, candidate)


def candidates_per_hour(params: Params, prepared: Path, count: int, deadline: float) -> dict:
    """Candidates per hour with ``count`` processes side by side, from the first candidate of each to the last.

    No candidate starts after ``deadline``, of ``time.monotonic``, if there is one to time.
    """
    task = ProxyTask(prepared.absolute(), params.base, params.network, params.evolve)
    genotype = configured_genotype(params.network)
    jobs = [Candidate(0, index, index, genotype) for index in range(count * (1 + PER_PROCESS))]
    ends: list[float] = []
    with Processes(count) as pool:
        for _, score in run_each(pool, partial(score_candidate, task), jobs):
            if isinstance(score, BrokenExecutor):
                return {"failed": "a worker died (out of memory?)"}
            if score.status != "ok":
                return {"failed": score.status.removeprefix("failed: ")}
            ends.append(time.monotonic())
            if ends[-1] > deadline and len(ends) > count:
                break
    return {"per_hour": round(3600 * (len(ends) - count) / (ends[-1] - ends[count - 1]), 1), "timed": len(ends) - count}


class _TimeUpError(Exception):
    """Ends an epoch."""


class _Clock:
    """Counts the images of a training run and ends it at the deadline; the first steps, which compile, are left out."""

    def __init__(self, device: torch.device, deadline: float, batch_size: int):
        self._device, self._deadline, self._batch_size = device, deadline, batch_size
        self._steps, self._start = 0, 0.0
        self.images, self.seconds = 0, 0.0
        self.mid_epoch: MidEpochState | None = None

    def on_step(self, mid_epoch: MidEpochState) -> None:
        """Count a step; raise `_TimeUpError` after the deadline, once some steps were timed."""
        self.mid_epoch = mid_epoch
        self._count(self._batch_size)
        if self.images and time.monotonic() > self._deadline:
            self.read()
            raise _TimeUpError

    def on_epoch(self, last_batch: int) -> None:
        """Count the last step of an epoch, on ``last_batch`` images."""
        self._count(last_batch)
        if self.images:
            self.read()

    def read(self) -> None:
        """Set ``seconds``, once the device has done its work."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds = time.monotonic() - self._start

    def _count(self, n_images: int) -> None:
        self._steps += 1
        if self._steps > WARM_UP:
            self.images += n_images
        elif self._steps == WARM_UP:
            self.read()
            self._start = time.monotonic()


def train(params: Params, data: Prepared, folder: Path, deadline: float) -> dict:
    """Train until ``deadline``, of ``time.monotonic``, or to the end; a later call goes on from the state in ``folder``.

    Returns:
        {epochs: done, images_per_second: of this call, peak_mib: of the GPU's memory, train_loss: by epoch}.
    """
    compute = Compute.of(params.base.device, params.base.precision)
    net = wired_network(params.network, data.meta, None, derive_seed(params.base.seed, "fresh") % 2**31).to(compute.device)
    images = data.train.to(compute.device)
    recipe = full_recipe(params, data.meta.normalise, compute, len(images))
    optimizer = recipe.begin(net, images)
    n_steps = steps_per_epoch(len(images), recipe.cfg.batch_size)
    model, states = parallel(net, compute), Resumable(folder, "step", net, optimizer, n_steps)
    first, rows, mid_epoch = states.restore()
    if compute.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    clock, part = _Clock(compute.device, deadline, recipe.cfg.batch_size), 0
    last_batch = images_per_epoch(len(images), recipe.cfg.batch_size) - (n_steps - 1) * recipe.cfg.batch_size
    with long_run(largest_activation(params.network, data.meta, len(images) * recipe.cfg.epochs)):
        for epoch in range(first, recipe.cfg.epochs):
            try:
                record = train_epoch(model, optimizer, images, recipe, epoch, mid_epoch, clock.on_step)
            except _TimeUpError:
                states.keep(epoch, rows, clock.mid_epoch)
                assert clock.mid_epoch
                part = clock.mid_epoch.step
                break
            clock.on_epoch(last_batch)
            rows, mid_epoch = [*rows, asdict(record)], None
        else:
            states.keep(len(rows), rows)
    return {
        "epochs": round(len(rows) + part / n_steps, 3),
        "images_per_second": round(clock.images / clock.seconds, 1) if clock.images else None,
        "peak_mib": round(torch.cuda.max_memory_allocated() / 2**20) if compute.device.type == "cuda" else None,
        "train_loss": [round(row["train_loss"], 4) for row in rows],
    }

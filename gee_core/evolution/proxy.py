"""The score of one candidate: a short training run from its wiring, then its loss and regularisers on held-out images.

Under a budget, the energy of its network is measured too.

Runs in worker processes: all it needs is in its arguments, and each process reads the images once.

Shapes: T steps, B batch, K network outputs.
"""

import functools
import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor

from gee_core.compute import Compute
from gee_core.config import Proxy, TrainConfig
from gee_core.config.genes import with_genes
from gee_core.data.augment import Normalise, resize_square
from gee_core.data.meta import Meta
from gee_core.data.prepared import load_prepared
from gee_core.errors import full_gpu, in_section, lost_gpu, out_of_memory
from gee_core.evaluation.energy import measure_energy
from gee_core.evolution.candidate import Candidate, Failure, ProxyTask, Score, failed
from gee_core.evolution.fitness import spatial_entropy, temporal_difference
from gee_core.genome.encoding import genome_of
from gee_core.model.base import SpikingNetwork
from gee_core.model.wired import first_not_finite, wired_network
from gee_core.seeding import derive_seed
from gee_core.training.loop import Images, for_inference, outputs, train_epoch
from gee_core.training.processes import parallel
from gee_core.training.recipe import Recipe, images_per_epoch, steps_per_epoch
from gee_core.training.resume import Resumable, adopt_format


def score(task: ProxyTask, candidate: Candidate) -> Score:
    """Train ``candidate`` for E epochs, and measure it on the hold-out. A failed run is a score too.

    It resumes from the newest state in ``task.checkpoints``. Without a state it is trained again, with the same result.

    Raises:
        RuntimeError: this process has lost its GPU, which says nothing about the candidate.
        Exception: of another kind, as of a bug in the network's code. It has a note that names the candidate.
    """
    passes: list[int] = []
    try:
        return _score(task, candidate, passes)
    except (ArithmeticError, MemoryError, RuntimeError) as error:  # torch's OutOfMemoryError is one of the last
        if lost_gpu(error):
            raise
        return failed(f"{type(error).__name__}: {error}", kind_of(error), sum(passes))
    except Exception as error:
        error.add_note(f"in candidate {candidate.index} of generation {candidate.generation}, seed {candidate.seed}")
        raise


def kind_of(error: Exception) -> Failure:
    """The kind of failure that ``error`` is."""
    if isinstance(error, torch.OutOfMemoryError) or full_gpu(str(error)):
        return Failure.GPU_MEMORY
    if out_of_memory(error):
        return Failure.MEMORY
    singular = torch.linalg.LinAlgError  # type: ignore[attr-defined]
    if isinstance(error, ArithmeticError | singular) or "without overflow" in str(error):  # of a value that torch cannot hold
        return Failure.DIVERGED
    return Failure.CODE


def _score(task: ProxyTask, candidate: Candidate, passes: list[int]) -> Score:
    compute = Compute.of(task.base.device, task.base.precision)
    if task.checkpoints is not None:
        compute = adopt_format(compute, task.checkpoints)
    genes = dict(candidate.genotype.settings)
    network, proxy = with_genes(task.network, genes), with_genes(task.evolve.proxy, genes)
    meta, train, holdout = _images(task.prepared, proxy.images, compute.device)
    net = wired_network(network, meta, candidate.genotype, candidate.seed).to(compute.device)
    recipe = proxy_recipe(proxy, meta.normalise, compute, len(train), candidate.seed)
    with in_section("evolve", "proxy"):
        optimizer = recipe.begin(net, train)
    n_steps, per_epoch = (count(len(train), recipe.cfg.batch_size) for count in (steps_per_epoch, images_per_epoch))
    series = f"{candidate.name}-{candidate.wiring}-step"  # no other wiring has it
    states = Resumable(task.checkpoints, series, net, optimizer, n_steps, task.save_seconds)
    first, rows, mid_epoch = states.restore()
    passes += [per_epoch] * first
    model = parallel(net, compute)
    for epoch in range(first, recipe.cfg.epochs):
        passes.append(per_epoch)
        on_step = states.periodic_saver(epoch, rows)
        record = train_epoch(model, optimizer, train, recipe, epoch, mid_epoch, on_step)
        rows = [*rows, {"train_loss": record.train_loss}]
        mid_epoch = None
    if lost := first_not_finite(net.state_dict()):
        raise FloatingPointError(f"{lost} holds values that are not finite after the training")
    size, TSE = proxy.sizes[-1] if proxy.sizes else None, fmean(row["train_loss"] for row in rows)
    result = replace(measure(net, holdout, recipe, TSE, size), image_passes=sum(passes))
    if candidate.price is not None and result.status == "ok":
        inputs = recipe.normalise(next(holdout.batches(256))[0])
        energy_mj = measure_energy(net, inputs, recipe.compute.dtype).energy_mj(*task.pj)
        result = replace(result, energy_uj=1000 * energy_mj)
    return result


def measure(net: SpikingNetwork, holdout: Images, recipe: Recipe, TSE: float, size: int | None = None) -> Score:
    """The score of a candidate after its training: its measurements on the hold-out images of ``size``, and its ``TSE``.

    A plain network has no O, and R_S = 0.
    """

    def to_input(images: Tensor) -> Tensor:
        return resize_square(recipe.normalise(images), size)

    sums, classes = torch.zeros(6, dtype=torch.float64, device=recipe.compute.device), list[Tensor]()
    for o_TBK, labels in outputs(for_inference(net), holdout, 256, to_input, recipe.compute):
        logits, o = o_TBK.mean(0), o_TBK.double()
        classes.append(labels.bincount(minlength=logits.shape[1]))
        loss, correct = F.cross_entropy(logits, labels, reduction="sum"), (logits.argmax(1) == labels).sum()
        spread = o.sum(), o.square().sum(), torch.full_like(sums[0], o.numel())
        sums += torch.stack([x.double() for x in (loss, temporal_difference(o_TBK) * len(labels), correct, *spread)])
    L_ce, R_T, accuracy = (sums[:3] / len(holdout)).tolist()
    o_sum, o_square, n = sums[3:].tolist()
    var_o = max(0.0, o_square / n - (o_sum / n) ** 2)
    genome = genome_of(net)
    R_S = 0.0 if genome is None else spatial_entropy(genome.O.detach()).item()
    if not all(map(math.isfinite, (L_ce, R_T, o_square, R_S))):
        return failed(f"L_ce = {L_ce}, R_T = {R_T}, R_S = {R_S} on the hold-out")
    p_K = torch.stack(classes).sum(0) / len(holdout)  # the best constant answer
    return Score(L_ce, TSE, R_T, var_o, R_S, accuracy, dead=L_ce >= -p_K.xlogy(p_K).sum().item())


def proxy_recipe(proxy: Proxy, normalise: Normalise, compute: Compute, n_images: int, seed: int) -> Recipe:
    """The short training run: cosine to 0, a tenth of the steps as warm-up, no augmentation.

    Paper: names the epochs only. Here: no augmentation, because E = 2 epochs are too few to overfit, and the ranking is
    less noisy without.
    """
    cfg = TrainConfig(
        **proxy.model_dump(exclude={"images"}),
        lr_min=0.0,
        cooldown=None,
        warmup_epochs=0.0,
        loss="ce",
        tet_lambda=0.0,
        spike_penalty=0.0,
        label_smoothing=0.0,
        crop_padding=0,
        flip=False,
        randaugment=0,
        erasing=0.0,
        noise=0.0,
        norm_images=None,
        wiring_seed="candidate",
        init_from=None,
        parts=None,
        include_holdout=False,
        quantise=None,
        finish=None,
    )
    warmup_steps = max(1, proxy.epochs * steps_per_epoch(n_images, proxy.batch_size) // 10)
    return Recipe(cfg=cfg, normalise=normalise, compute=compute, seed=derive_seed(seed, "proxy"), warmup_steps=warmup_steps)


def forget_images() -> None:
    """Make the next candidate read the images again, which may be others under the same path."""
    _images.cache_clear()


@functools.lru_cache(maxsize=1)  # all candidates have the same
def _images(prepared: Path, n: int | None, device: torch.device) -> tuple[Meta, Images, Images]:
    data = load_prepared(prepared)
    train = data.proxy_train(n)
    return data.meta, train.to(device), data.holdout_images().to(device)

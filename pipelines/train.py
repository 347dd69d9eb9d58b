"""Stage train: the winner's wiring, trained in full → models/train/network.safetensors."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from gee_core.checkpoint import save_network
from gee_core.config import Params, TrainConfig
from gee_core.data.augment import Augment, Normalise
from gee_core.data.prepared import Meta, Prepared
from gee_core.errors import DivergedError, InputError
from gee_core.evaluation.accuracy import accuracy_and_loss
from gee_core.evaluation.energy import firing_rates
from gee_core.evolution.proxy import plain_parameters, wired_network
from gee_core.genome.genotype import Genotype
from gee_core.hardware import Compute, set_threads
from gee_core.model.network import SpikingNetwork, count_parameters
from gee_core.model.zoo import NETWORKS
from gee_core.seeding import derive_seed
from gee_core.storage.atomic_files import sha256, write_atomically, write_json
from gee_core.storage.json_object import read_json_object
from gee_core.training.loop import Images, Recipe, for_inference, steps_per_epoch, train_epoch
from gee_core.training.resume import Resumable
from gee_core.training.schedule import adamw, sgd
from pipelines.inputs.init_checkpoint import encoded_network, error_table, init_from_files
from pipelines.inputs.prepared_images import prepared_images
from pipelines.project.paths import CHECKPOINT, GENOTYPE, PREPARED, REPORTS
from pipelines.runtime.progress import console
from pipelines.runtime.resume_folder import delete_finished_runs, finish_run, open_resume_folder
from pipelines.runtime.settings import Settings
from pipelines.stage import Stage, stage

OUT = REPORTS / "train"

RATE_IMAGES = 64
"""Hold-out images on which firing rates are measured after every epoch."""


def train_network(
    params: Params,
    genotype: dict,
    data: Prepared,
    scratch: Path,
    on_epoch: Callable[[dict], None] = lambda row: None,
    on_encoded: Callable[[dict[str, float]], None] = lambda errors: None,
) -> tuple[SpikingNetwork, list[dict], dict]:
    """The stage's work: the trained network, one row per epoch, and what reports/train/metrics.json holds.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    try:
        net, rows = run(params, genotype, data, scratch, on_epoch, on_encoded)
    except FloatingPointError as error:
        raise DivergedError(f"train: {error}; lower train.lr = {params.train.lr}, then `dvc repro train`") from None
    last = {key: rows[-1][key] for key in ("train_loss", "train_accuracy")}
    counts = {"parameters": count_parameters(net), "plain_parameters": plain_parameters(params.network, data.meta)}
    return net, rows, last | counts


def run(
    params: Params,
    genotype: dict,
    data: Prepared,
    scratch: Path,
    on_epoch: Callable[[dict], None] = lambda row: None,
    on_encoded: Callable[[dict[str, float]], None] = lambda errors: None,
) -> tuple[SpikingNetwork, list[dict]]:
    """Train in full; returns the network and one row per epoch. A training that was interrupted in ``scratch`` goes on.

    ``on_encoded`` gets each layer's relative error where training starts at the weights of `train.init_from`.
    """
    compute = Compute.of(params.base.device, params.base.precision)
    seed = genotype["seed"] if params.train.wiring_seed == "candidate" else derive_seed(params.base.seed, "fresh") % 2**31
    if params.train.init_from is None:
        net = _wired(params, data.meta, genotype, seed).to(compute.device)
    else:
        net, errors = encoded_network(params, data.meta)
        on_encoded(errors)
        net = net.to(compute.device)
    images = (data.train if params.train.include_holdout else data.proxy_train(None, 0)).to(compute.device)
    holdout = data.holdout_images().to(compute.device)
    x_rates = rate_images(holdout, data.meta.normalise)
    recipe = full_recipe(params, data.meta.normalise, compute, len(images))
    optimizer = make_optimizer(net, params.train)
    n_steps = steps_per_epoch(len(images), recipe.batch_size)
    states = Resumable(scratch, "step", net, optimizer, n_steps, save_seconds=Settings.read().save_seconds)
    first, rows, mid_epoch = states.restore()
    for row in rows:
        on_epoch(row)
    for epoch in range(first, recipe.epochs):
        row = asdict(train_epoch(net, optimizer, images, recipe, epoch, mid_epoch, states.periodic_saver(epoch, rows)))
        mid_epoch = None
        if not params.train.include_holdout:
            plain = for_inference(net)
            row["val_accuracy"], _ = accuracy_and_loss(plain, holdout, 256, data.meta.normalise, compute)
        row |= {f"firing_rate/{layer}": rate for layer, rate in firing_rates(net, x_rates, compute.dtype).items()}
        rows.append(row)
        states.keep(len(rows), rows)
        on_epoch(row)
    return net, rows


def _wired(params: Params, meta: Meta, genotype: dict, seed: int) -> SpikingNetwork:
    try:
        return wired_network(params.network, meta, read_genotype(genotype), seed)
    except ValueError as error:
        raise InputError(f"{GENOTYPE}: does not fit the network ({error}); run `dvc repro evolve`") from None


def rate_images(holdout: Images, normalise: Normalise) -> torch.Tensor:
    """``RATE_IMAGES`` of the hold-out, evenly spaced since it may be sorted by class, as the network's input (B, C, H, W)."""
    spaced = torch.linspace(0, len(holdout) - 1, min(RATE_IMAGES, len(holdout))).long()
    images, _ = next(holdout.subset(spaced).batches(RATE_IMAGES))
    return normalise(images)


def read_genotype(values: dict) -> Genotype | None:
    """The σ's of models/evolve/genotype.json; None for a plain network."""
    return None if values["sigma_O"] is None else Genotype(values["sigma_O"], tuple(values["sigma_X"]))


def full_recipe(params: Params, normalise: Normalise, compute: Compute, n_images: int) -> Recipe:
    """The recipe of Sec. 4 with the values of the section `train`."""
    cfg: TrainConfig = params.train
    return Recipe(
        epochs=cfg.epochs,
        batch_size=cfg.batch_size,
        lr=cfg.lr,
        lr_min=cfg.lr_min,
        warmup_steps=cfg.warmup_epochs * steps_per_epoch(n_images, cfg.batch_size),
        label_smoothing=cfg.label_smoothing,
        augment=Augment(cfg.crop_padding, cfg.flip, cfg.randaugment, cfg.erasing),
        normalise=normalise,
        compute=compute,
        seed=derive_seed(params.base.seed, "train"),
        loss=cfg.loss,
        tet_lambda=cfg.tet_lambda,
        tet_phi=params.network.v_threshold,
    )


def make_optimizer(net: SpikingNetwork, cfg: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of the section `train`."""
    if cfg.optimizer == "sgd":
        return sgd(net, cfg.weight_decay, cfg.momentum)
    return adamw(net, cfg.weight_decay)


def load_genotype(path: Path, params: Params) -> dict:
    """models/evolve/genotype.json, checked to be this network's.

    Raises:
        InputError: it is missing, damaged, or another network's.
    """
    try:
        values = read_json_object(path)
        found = {key: values[key] for key in ("network", "n_genes")}
        _check_numbers(values)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; `dvc repro evolve` makes it, `dvc pull` fetches it") from None
    except KeyError as error:
        raise InputError(f"{path}: damaged (it lacks {error}); delete it and run `dvc repro evolve`") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}); delete it and run `dvc repro evolve`") from None
    wanted = {"network": params.network.name, "n_genes": params.network.n_genes}
    if found != wanted:
        raise InputError(f"{path}: a genotype of another network ({found}, not {wanted}); run `dvc repro evolve`")
    return values


def _check_numbers(values: dict) -> None:
    sigma_O, sigma_X, plain = values["sigma_O"], values["sigma_X"], values["n_genes"] is None
    if plain and (sigma_O, sigma_X) != (None, None):
        raise ValueError("a plain network has no σ's")
    sigmas = [] if plain else [sigma_O, *(sigma_X if isinstance(sigma_X, list) else [None])]
    if type(values["seed"]) is not int or not all(type(s) in (int, float) and s > 0 for s in sigmas):
        raise ValueError("its seed must be a whole number, its σ's positive numbers")


def main() -> None:
    with stage("train") as s:
        _train(s)


def _train(s: Stage) -> None:
    params, data = s.params, prepared_images()
    genotype = load_genotype(GENOTYPE, params)
    sections = [params.base, params.network, params.train]
    start = init_from_files(params)
    scratch = open_resume_folder("train", sections, [PREPARED / "meta.json", GENOTYPE, *start])
    delete_finished_runs(scratch)
    s.track.params(params.train.model_dump())
    stem_channels = NETWORKS[params.network.name].stem * params.network.width
    set_threads(params.train.batch_size * params.network.T * stem_channels * data.meta.image_size**2)
    encoding: dict[str, float] = {}
    with s.progress("train", params.train.epochs) as advance:

        def on_epoch(row: dict) -> None:
            values = {key: value for key, value in row.items() if key != "epoch"}
            s.track.metrics(values, step=row["epoch"])
            advance(note=f"loss {row['train_loss']:.3f}, accuracy {row['train_accuracy']:.3f}")

        def on_encoded(errors: dict[str, float]) -> None:
            console.print(error_table(errors))
            encoding["encoding_error"] = sum(errors.values()) / len(errors)
            encoding.update({f"encoding_error/{layer}": error for layer, error in errors.items()})

        net, rows, metrics = train_network(params, genotype, data, scratch, on_epoch, on_encoded)
    save_network(CHECKPOINT, net, params.network, data.meta)
    write_atomically(OUT / "history.csv", pd.DataFrame(rows).to_csv(index=False))
    write_json(OUT / "metrics.json", metrics | encoding)
    s.track.metrics({key: metrics[key] for key in ("parameters", "plain_parameters")} | encoding)
    if start:
        s.track.tags({"init_from_sha256": sha256(start[0])})
    s.track.artifact(CHECKPOINT)
    s.track.artifact(CHECKPOINT.with_suffix(".json"))
    finish_run(scratch, OUT / "metrics.json")


if __name__ == "__main__":
    main()

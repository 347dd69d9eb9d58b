"""Stage train: trains the winner's wiring in full → models/train/network.safetensors."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from gee_core.checkpoint import save
from gee_core.compute import Compute, limit_threads
from gee_core.config import Params, TrainConfig
from gee_core.data.meta import Meta
from gee_core.data.prepared import Prepared
from gee_core.errors import DivergedError, as_input_error, in_section
from gee_core.evaluation.energy import firing_rates
from gee_core.model.base import SpikingNetwork
from gee_core.model.network import count_parameters
from gee_core.model.wired import largest_activation, plain_parameters, wired_network
from gee_core.seeding import derive_seed
from gee_core.snn.kernels import long_run
from gee_core.storage.atomic_files import sha256, write_atomically, write_json
from gee_core.storage.csv_rows import csv_text
from gee_core.training.loop import Images, accuracy_and_loss, for_inference, train_epoch, with_integers
from gee_core.training.processes import from_all, parallel
from gee_core.training.recipe import check_images, full_recipe, steps_per_epoch
from gee_core.training.resume import Resumable, Rows, adopt_format
from pipelines.engines.ranks import at_work_together, check_alike, joined, said_once
from pipelines.inputs.genotype_file import GenotypeFile, load_genotype
from pipelines.inputs.init_from import encoded_network, init_from_files
from pipelines.inputs.loading import error_table, prepared_images, spaced
from pipelines.inputs.own_network import network_files
from pipelines.project.paths import CHECKPOINT, GENOTYPE, PREPARED, REPORTS
from pipelines.runtime.input_errors import remedy
from pipelines.runtime.progress import console
from pipelines.runtime.run_files import WORK, read_sent
from pipelines.runtime.run_folder import folder_of
from pipelines.runtime.settings import Settings
from pipelines.stage import Stage, stage
from pipelines.tracking.mlflow_client import is_local
from pipelines.tracking.pipeline_run import describe_datasets

OUT = REPORTS / "train"

RATE_IMAGES = 64
"""Number of hold-out images on which firing rates are measured after every epoch."""

VALIDATION, PASSES = 0.03, 3
"""Part of training that validation takes at most, and passes in the time that training takes for an image."""


class Trained(NamedTuple):
    """The result of a full training run."""

    net: SpikingNetwork
    rows: Rows
    """One per epoch, with accuracy and loss on images that are not trained on in those that validate."""
    metrics: dict[str, float]
    """The content of reports/train/metrics.json, without the encoding's errors."""
    errors: dict[str, float]
    """The relative error of each layer if training started at the encoded weights of `train.init_from`."""


def run(
    params: Params,
    genotype: GenotypeFile,
    data: Prepared,
    scratch: Path,
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
    on_step: Callable[[float], None] = lambda epochs: None,
    compute: Compute | None = None,
) -> Trained:
    """Train in full. An interrupted training run is resumed from its states in ``scratch``.

    ``on_step`` gets after each step the number of epochs done, such as 2.25. ``compute`` says which of several processes this
    one is.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    params = params.with_genes(genotype.genes)
    cfg, compute = params.train, compute or Compute.of(params.base.device, params.base.precision)
    net, errors = start_network(params, genotype, data.meta)
    net.to(compute.device)
    images, holdout = (part.to(compute.device) for part in (training_images(cfg, data), data.holdout_images()))
    rated, _ = next(spaced(holdout, RATE_IMAGES).batches(RATE_IMAGES))
    x_rates = data.meta.normalise(rated)
    seed = derive_seed(params.base.seed, "train")
    recipe = full_recipe(cfg, data.meta.normalise, compute, len(images), seed, params.network.v_threshold)
    with in_section("train"):
        optimizer = recipe.begin(net, images)
    model = parallel(net, compute)
    n_steps = steps_per_epoch(len(images), cfg.batch_size)
    seen, validation = ("test", data.test.to(compute.device)) if cfg.include_holdout else ("val", holdout)
    every = math.ceil(len(validation) / (VALIDATION * PASSES * len(images)))
    states = Resumable(scratch, "step", net, optimizer, n_steps, Settings.read().save_seconds, compute.rank)
    first, rows, mid_epoch = states.restore()
    for row in rows:
        on_epoch(row)
    with long_run(largest_activation(params.network, data.meta, len(images) * cfg.epochs)):
        for epoch in range(first, cfg.epochs):
            on_part = states.periodic_saver(epoch, rows, on_step)
            try:
                record = train_epoch(model, optimizer, images, recipe, epoch, mid_epoch, on_part)
            except FloatingPointError as error:
                raise DivergedError(f"train: {error}", f"lower train.lr = {cfg.lr}, then `dvc repro train`") from None
            row, mid_epoch = asdict(record), None
            with with_integers(net, recipe.levels_of(epoch + 1)):
                if (cfg.epochs - epoch - 1) % every == 0:  # after the last too
                    measured = accuracy_and_loss(for_inference(net), validation, 256, data.meta.normalise, compute)
                    row[f"{seen}_accuracy"], row[f"{seen}_loss"] = measured
                row |= {f"firing_rate/{layer}": rate for layer, rate in firing_rates(net, x_rates, compute.dtype).items()}
            rows.append(row)
            states.keep(len(rows), rows)
            on_epoch(row)
    summarised = ("train_loss", "train_accuracy", "val_accuracy", "val_loss")
    metrics = {key: rows[-1][key] for key in summarised if key in rows[-1]}
    metrics |= {"parameters": count_parameters(net), "plain_parameters": plain_parameters(params.network, data.meta)}
    return Trained(net, rows, metrics, errors)


def training_images(cfg: TrainConfig, data: Prepared) -> Images:
    """The images of a full training run: with or without the hold-out, as `train.include_holdout` says."""
    return data.train if cfg.include_holdout else data.proxy_train()


def start_network(params: Params, genotype: GenotypeFile, meta: Meta) -> tuple[SpikingNetwork, dict[str, float]]:
    """The network that training starts from: the wiring, or that in `train.init_from` with each layer's error."""
    if params.train.init_from is not None:
        return encoded_network(params, meta)
    seed = genotype.seed if params.train.wiring_seed == "candidate" else derive_seed(params.base.seed, "fresh") % 2**31
    with as_input_error(f"{GENOTYPE}: does not fit the network", remedy="run `dvc repro evolve`"):
        return wired_network(params.network, meta, genotype.genotype, seed), {}


def train_folder(params: Params) -> Path:
    """The run folder of the training run."""
    inputs = [PREPARED / "meta.json", GENOTYPE, *init_from_files(params), *network_files(params.network.name)]
    return folder_of("train", [params.base, params.network, params.train], inputs)


@contextmanager
def training_together(s: Stage, params: Params, data: Prepared, folder: Path, compute: Compute) -> Iterator[Compute]:
    """Context in which all processes of a stage train a network in the run ``folder``.

    It yields ``compute`` in the format in which the work began.
    """
    cfg, rank = params.train, compute.rank
    check_alike(rank, {"params, inputs and code": folder.name})
    with said_once(rank):
        params.check_sizes(data.meta.image_size)
        check_images(len(training_images(cfg, data)), cfg.batch_size, rank)
    limit_threads(largest_activation(params.network, data.meta, cfg.batch_size // rank.of))
    with at_work_together(rank, s.run.at_work_in(folder)):
        compute = replace(compute, dtype=from_all(adopt_format(compute, folder / WORK).dtype, rank)[0])
        tags = {"number_format": compute.number_format}
        s.run.note(cfg.model_dump(), tags=tags, datasets=describe_datasets(data.meta, "training"))
        yield compute


def main() -> None:
    with stage("train") as s, joined(s.params.base) as compute:
        _train(s, compute)


def _train(s: Stage, compute: Compute) -> None:
    data, genotype = prepared_images(), load_genotype(s.params)
    folder, start = train_folder(s.params), init_from_files(s.params)
    params = s.params.with_genes(genotype.genes)
    with training_together(s, params, data, folder, compute) as compute:
        with s.progress("train", params.train.epochs) as steps:
            page = ""

            def on_step(epochs: float) -> None:
                nonlocal page
                steps.at(epochs)
                if s.run.record.store and not page and (page := read_sent(folder).page):
                    where = "`gee ui` shows its curves" if is_local(s.run.record.store) else f"its curves grow at {page}"
                    console.print(f"train: {where}", soft_wrap=True)

            def on_epoch(row: dict[str, float]) -> None:
                s.run.point(int(row["epoch"]), {key: value for key, value in row.items() if key != "epoch"})
                steps.at(row["epoch"], f"loss {row['train_loss']:.3f}, accuracy {row['train_accuracy']:.3f}")

            net, rows, metrics, errors = run(params, genotype, data, folder / WORK, on_epoch, on_step, compute)
        if s.follows:
            return
        write_atomically(OUT / "history.csv", csv_text(rows))
        with remedy(f"lower train.lr = {params.train.lr}, then `dvc repro train`"):  # if its weights are not finite
            save(CHECKPOINT, net)
        encoding = {f"encoding_error/{layer}": error for layer, error in errors.items()}
        if errors:
            console.print(error_table(errors))
            encoding = {"encoding_error": fmean(errors.values())} | encoding
        together = {"processes": compute.rank.of} if compute.rank.of > 1 else {}
        write_json(OUT / "metrics.json", metrics | encoding | together)
        numbers = {key: metrics[key] for key in ("parameters", "plain_parameters")} | encoding
        s.run.note(metrics=numbers, tags=together | ({"init_from_sha256": sha256(start[0])} if start else {}))
        for path in (CHECKPOINT, CHECKPOINT.with_suffix(".json")):
            s.run.artifact(path)
        s.run.finish(OUT / "metrics.json")


if __name__ == "__main__":
    main()

"""The seconds of ``time_to_accuracy``: of a step of every contender, and summed up to the epoch that reaches an accuracy."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer

from benchmarks.accuracy_contenders import CONTENDERS, contender, own_layers
from benchmarks.training_step import medians
from gee_core.data.prepared import Prepared
from gee_core.model.wired import largest_activation
from gee_core.snn.kernels import long_run
from gee_core.training.loop import Images, train_epoch
from gee_core.training.recipe import Recipe

Times = dict[tuple, float]
"""Seconds per image of a step of (contender, size, T), and of the statistics of batch norm, (contender, "norm")."""


def step_times(sections: dict[str, dict], data: Prepared, rounds: int) -> list[dict]:
    """{contender, size, T, seconds_per_image} of every contender and part of its recipe.

    Where its recipe takes batch norm's statistics anew, also {contender, norm, seconds_per_image}.
    """
    steps: dict[tuple, Callable[[], object]] = {}
    n_images: dict[tuple, int] = {}
    for name in CONTENDERS:
        side = contender(sections[name], name, layers=own_layers(name))
        net, optimizer, recipe = side.build(data.meta, data.train)
        images = data.train.subset(torch.arange(min(recipe.cfg.batch_size, len(data.train)))).to(recipe.compute.device)
        n_values = largest_activation(side.params.network, data.meta, len(data.train) * recipe.cfg.epochs)
        parts = [(recipe.size_of(epoch), recipe.T_of(epoch)) for epoch in range(recipe.cfg.epochs)]
        for size, T in dict.fromkeys((size or data.meta.image_size, T or side.params.network.T) for size, T in parts):
            changes = {"epochs": 1, "lr": 1e-5, "lr_min": 0.0, "sizes": [size], "T_schedule": [T], "norm_images": None}
            part = replace(recipe, cfg=recipe.cfg.model_copy(update=changes), warmup_steps=0)
            steps[name, size, T] = partial(one_epoch, net, optimizer, images, part, n_values)
            n_images[name, size, T] = len(images)
        if recipe.cfg.norm_images:
            steps[name, "norm"] = partial(new_statistics, net, data.train, recipe, n_values)
            n_images[name, "norm"] = recipe.cfg.norm_images
    seconds = medians(steps, rounds)
    return [named(key) | {"seconds_per_image": value / n_images[key]} for key, value in seconds.items()]


def one_epoch(net: nn.Module, optimizer: Optimizer, images: Images, recipe: Recipe, n_values: int) -> None:
    with long_run(n_values):
        train_epoch(net, optimizer, images, recipe, 0)


def new_statistics(net: nn.Module, images: Images, recipe: Recipe, n_values: int) -> None:
    with long_run(n_values):
        recipe.end(net, images)


def named(key: tuple) -> dict:
    """A key in ``Times`` as a row of ``step_times`` has it."""
    return dict(zip(("contender", "size", "T"), key, strict=True)) if len(key) == 3 else {"contender": key[0], "norm": True}


def key_of(row: dict) -> tuple:
    """The key in ``Times`` of a row of ``step_times``."""
    return (row["contender"], "norm") if "norm" in row else (row["contender"], row["size"], row["T"])


def middle_times(measured: list[list[dict]]) -> Times:
    """The median of each of the ``Times`` over several results of ``step_times``."""
    found: dict[tuple, list[float]] = {}
    for rows in measured:
        for row in rows:
            found.setdefault(key_of(row), []).append(row["seconds_per_image"])
    return {key: statistics.median(values) for key, values in found.items()}


def reached(rows: list[dict], target: float, times: Times, name: str) -> tuple[float | None, int] | None:
    """(seconds, images) of the epochs up to the first whose test accuracy is at least ``target``; None if there is none.

    The seconds are None where a time was not measured.
    """
    seconds: float | None = 0.0
    images = 0
    for row in rows:
        for key, n in (((name, row["size"], row["T"]), row["images"]), ((name, "norm"), row.get("norm_images", 0))):
            per_image = times.get(key) if n else 0.0
            seconds = None if seconds is None or per_image is None else seconds + n * per_image
        images += row["images"]
        if row["test_accuracy"] >= target:
            return seconds, images
    return None

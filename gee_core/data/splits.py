"""Stratified parts of a labelled set, fixed by a seed."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from gee_core.config import PrepareConfig
from gee_core.data.folders import FileList, Listing
from gee_core.data.images import PackedImages
from gee_core.errors import InputError
from gee_core.seeding import torch_generator

Part = TypeVar("Part", FileList, PackedImages)


def stratified_indices(labels: Tensor, n: int, setting: str, *names: str) -> Tensor:
    """Ascending indices of ``n`` images: shares of ``labels`` (N,), one of each class or an InputError about the ``setting``.

    The draw is that of ``names``, by default of the ``setting``, in every run: ``base.seed`` changes no split.
    """
    labels = labels.cpu()
    counts = torch.bincount(labels)
    n_classes = int((counts > 0).sum())
    if n > len(labels):
        raise InputError(f"{setting}: {n} images are wanted, but there are only {len(labels)}", "ask for at most that many")
    if n < n_classes:
        raise InputError(f"{setting}: {n} of {len(labels)} images cannot show all {n_classes} classes", "ask for more")
    quotas = class_quotas(counts, n)
    order = torch.randperm(len(labels), generator=torch_generator(0, *names or (setting,)))
    by_class = order[labels[order].argsort(stable=True)]
    first_of_class = counts.cumsum(0) - counts
    rank = torch.arange(len(labels)) - first_of_class[labels[by_class]]
    return by_class[rank < quotas[labels[by_class]]].sort().values


def class_quotas(counts: Tensor, n: int) -> Tensor:
    """How many of ``n`` images each class gets if there are ``counts`` (K,): largest remainder, at least one each."""
    total = int(counts.sum())
    exact = n * counts  # in units of 1/total image, so that no rounding decides
    quotas = exact // max(total, 1)
    largest_first = (exact % max(total, 1)).argsort(descending=True, stable=True)
    quotas[largest_first[: n - int(quotas.sum())]] += 1
    for starved in ((quotas == 0) & (counts > 0)).nonzero().flatten():
        surplus = torch.where(quotas > 1, quotas * total - exact, torch.iinfo(torch.int64).min)
        quotas[surplus.argmax()] -= 1
        quotas[starved] = 1
    return quotas


def split_off(labels: Tensor, fraction: float, class_names: Sequence[str], setting: str, *names: str) -> Tensor:
    """Ascending indices of a ``fraction``, as ``stratified_indices``. InputError where it leaves a class none."""
    part = stratified_indices(labels, round(fraction * len(labels)), setting, *names)
    counts, taken = (torch.bincount(some.cpu(), minlength=len(class_names)) for some in (labels, labels[part]))
    if (counts == taken).any():
        bare = class_names[int((counts == taken).nonzero()[0])]
        problem = f"{setting} = {fraction}: leaves class {bare!r} no image to train on"
        raise InputError(problem, "add images of this class, or lower it")
    return part


def split_files(listing: Listing, cfg: PrepareConfig) -> tuple[FileList, Tensor | None, FileList]:
    """Training images, which of them are the hold-out if the folder says that, and test images, as many as ``cfg`` asks for."""
    train, val, test = (listing.files(split) for split in ("train", "val", "test"))
    assert train is not None
    if test is None:
        split = split_off(torch.tensor(train.labels), cfg.test_share, listing.class_names, "prepare.test_share")
        train, test = train.without(split), train.subset(split)
    test, most = part_of(test, cfg.max_test_images, "prepare.max_test_images"), cfg.max_train_images
    if val is None:
        return part_of(train, most, "prepare.max_train_images"), None, test
    if most is not None:  # of both folders the same share
        of_val = round(most * len(val.files) / (len(train.files) + len(val.files)))
        train = part_of(train, most - of_val, "prepare.max_train_images")
        val = part_of(val, of_val, "prepare.max_train_images", "prepare.max_train_images", "val")
    both = FileList(train.files + val.files, train.labels + val.labels)
    return both, torch.arange(len(train.files), len(both.files)), test


def part_of(images: Part, at_most: int | None, setting: str, *names: str) -> Part:
    """A stratified part of ``images``, as the ``setting`` asks for it."""
    if at_most is None or at_most >= len(images.labels):
        return images
    return images.subset(stratified_indices(torch.as_tensor(images.labels), at_most, setting, *names))

"""Stratified parts of a labelled set, fixed by a seed."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gee_core.config import PrepareConfig
from gee_core.data.folders import Listing
from gee_core.errors import InputError
from gee_core.seeding import torch_generator


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


class Parts(NamedTuple):
    """Which images are which, as ascending indices."""

    train: Tensor
    """Of the images in train/ and then in val/: the training images, those on which candidates are scored among them."""
    test: Tensor
    """Of the test images, or of those in train/ where there are no test images."""
    holdout: Tensor
    """Of ``train``: the images on which candidates are scored."""


def split(
    cfg: PrepareConfig, class_names: Sequence[str], train: Tensor, val: Tensor | None = None, test: Tensor | None = None
) -> Parts:
    """Which images of the labels ``train``, ``val`` and ``test``, each (N,), are used for what, as ``cfg`` asks for it.

    Test images are split off ``train`` if there are none. The hold-out is ``val``, or is split off what is left of ``train``.
    """
    kept = torch.arange(len(train))
    if test is None:
        names = ("digits", "test") if cfg.dataset == "digits" else ()
        tested = _split_off(train, cfg.test_share, class_names, "prepare.test_share", *names)
        kept, test = torch.ones(len(train), dtype=torch.bool).index_fill(0, tested, False).nonzero().flatten(), train[tested]
    else:
        tested = torch.arange(len(test))
    tested = tested[_part(test, cfg.max_test_images, "prepare.max_test_images")]
    most = cfg.max_train_images
    if val is None:
        kept = kept[_part(train[kept], most, "prepare.max_train_images")]
        return Parts(kept, tested, _split_off(train[kept], cfg.holdout, class_names, "prepare.holdout"))
    of_val = None if most is None else round(most * len(val) / (len(kept) + len(val)))  # of both folders the same share
    kept = kept[_part(train[kept], most and most - (of_val or 0), "prepare.max_train_images")]
    scored = _part(val, of_val, "prepare.max_train_images", "prepare.max_train_images", "val")
    return Parts(torch.cat([kept, len(train) + scored]), tested, torch.arange(len(kept), len(kept) + len(scored)))


class SplitFiles(NamedTuple):
    """Files of images, relative to their root, and their labels (N,)."""

    train: list[str]
    train_labels: Tensor
    test: list[str]
    test_labels: Tensor
    holdout: Tensor
    """Indices of ``train``."""


def split_files(listing: Listing, cfg: PrepareConfig) -> SplitFiles:
    """The files of ``listing`` as ``cfg`` asks for them."""
    labels = {name: torch.tensor(found) for name in ("train", "val", "test") if (found := listing.labels(name)) is not None}
    parts = split(cfg, listing.class_names, **labels)
    train = listing.files("train") + listing.files("val")
    train_labels = torch.cat([labels[name] for name in ("train", "val") if name in labels])
    test, test_labels = (listing.files("test"), labels["test"]) if "test" in labels else (train, train_labels)
    of_train, of_test = [train[i] for i in parts.train], [test[i] for i in parts.test]
    return SplitFiles(of_train, train_labels[parts.train], of_test, test_labels[parts.test], parts.holdout)


def _split_off(labels: Tensor, share: float, class_names: Sequence[str], setting: str, *names: str) -> Tensor:
    """A stratified ``share`` drawn for ``names`` or ``setting``. InputError where a class has no image left to train on."""
    part = stratified_indices(labels, round(share * len(labels)), setting, *names)
    counts, taken = (torch.bincount(some.cpu(), minlength=len(class_names)) for some in (labels, labels[part]))
    if (counts == taken).any():
        bare = class_names[int((counts == taken).nonzero()[0])]
        problem = f"{setting} = {share}: leaves class {bare!r} no image to train on"
        raise InputError(problem, "add images of this class, or lower it")
    return part


def _part(labels: Tensor, at_most: int | None, setting: str, *names: str) -> Tensor:
    """A stratified part of at most that many, as the ``setting`` asks for it."""
    if at_most is None or at_most >= len(labels):
        return torch.arange(len(labels))
    return stratified_indices(labels, at_most, setting, *names)

"""The table of the data sets: what is known of each before its images are there."""

from dataclasses import dataclass
from typing import Literal

Dataset = Literal["digits", "fashion_mnist", "cifar10", "cifar100", "nmnist", "folder", "events"]
"""Values of `prepare.dataset`: the names in the table, `folder`, and `events` for a folder of recordings."""


@dataclass(frozen=True)
class KnownDataset:
    """A data set that has a name of its own."""

    title: str
    """Its name in reports."""
    n_classes: int
    channels: int
    side: int
    """Width and height of its images in pixels."""
    folder: str | None = None
    """Where in `prepare.path` torchvision has its files, which it downloads if they are absent; None of one without files."""
    files: tuple[str, ...] = ()
    """Their names."""
    class_folders: bool = False
    """Whether `prepare.path` may hold class folders of images in place of torchvision's files."""


MNIST_FILES = tuple(f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))
CIFAR10_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")

DATASETS = {
    "digits": KnownDataset("digits", 10, 1, 8),
    "fashion_mnist": KnownDataset("Fashion-MNIST", 10, 1, 28, "FashionMNIST/raw", MNIST_FILES),
    "cifar10": KnownDataset("CIFAR-10", 10, 3, 32, "cifar-10-batches-py", CIFAR10_FILES, class_folders=True),
    "cifar100": KnownDataset("CIFAR-100", 100, 3, 32, "cifar-100-python", ("train", "test", "meta"), class_folders=True),
    "nmnist": KnownDataset("N-MNIST", 10, 2, 34, class_folders=True),
}
"""By name in params.yaml. scikit-learn brings `digits`; the others lie in `prepare.path`."""

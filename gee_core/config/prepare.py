"""The section `prepare`, and the table of the data sets that it may name."""

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gee_core.config.section import DataName, PathName, Positive, Section

Dataset = Literal["digits", "fashion_mnist", "cifar10", "cifar100", "nmnist", "folder", "events"]
"""Values of `prepare.dataset`: the names in `DATASETS`, `folder`, and `events` for a folder of recordings."""


@dataclass(frozen=True)
class KnownDataset:
    """What is known of a data set before its images are there."""

    title: str
    """Its name in reports."""
    n_classes: int
    channels: int
    side: int
    """Width and height of its images in pixels."""
    folder: str | None = None
    """Where in `prepare.path` torchvision has its files, and downloads them if they are absent. None: it has no files."""
    files: tuple[str, ...] = ()
    class_folders: bool = False
    """Whether `prepare.path` may hold class folders of images in place of the files."""


MNIST_FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
CIFAR10_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")

DATASETS = {
    "digits": KnownDataset("digits", 10, 1, 8),
    "fashion_mnist": KnownDataset("Fashion-MNIST", 10, 1, 28, "FashionMNIST/raw", MNIST_FILES),
    "cifar10": KnownDataset("CIFAR-10", 10, 3, 32, "cifar-10-batches-py", CIFAR10_FILES, class_folders=True),
    "cifar100": KnownDataset("CIFAR-100", 100, 3, 32, "cifar-100-python", ("train", "test", "meta"), class_folders=True),
    "nmnist": KnownDataset("N-MNIST", 10, 2, 34, class_folders=True),
}
"""By name in params.yaml. scikit-learn brings `digits`; the others lie in `prepare.path`."""


class Events(Section):
    """`prepare.events`: how the events of a recording become frames, each a count of events per pixel and polarity."""

    frames: Annotated[int, Field(ge=1, le=64)]
    """T, frames of a recording: as many as `network.T`."""
    split_by: Literal["number", "time"]
    """Whether every frame holds the same number of events or lasts the same time, as SpikingJelly's
    `integrate_events_by_fixed_frames_number` splits a recording. It has no effect on files that hold frames."""
    clip: Annotated[int, Field(ge=1, le=255)]
    """Largest count of a pixel in a frame: larger counts become this. 1 makes frames binary."""
    sensor: Annotated[list[Annotated[int, Field(ge=4, le=4096)]], Field(min_length=2, max_length=2)] | None = None
    """Width and height of the sensor in pixels, which lists of events do not say; null for `nmnist` and files of frames."""


class PrepareConfig(Section):
    """`prepare`: which images, and how they are split."""

    dataset: Dataset
    """`digits` (bundled with scikit-learn), `fashion_mnist`, `cifar10`, `cifar100` (torchvision), `folder`, of event cameras
    `nmnist`, `events` (a folder of recordings)."""
    path: PathName
    """Folder of torchvision's files, which are downloaded, or of class folders; in train/, val/ and test/, or alone."""
    name: DataName | None
    """Name of a `folder` or `events` in reports and MLflow; null: that of `path`, and for other data sets."""
    image_size: Annotated[int, Field(ge=4, le=1024)] | None
    """Side in pixels; the shorter is resized, the centre cropped, counts of events are summed. null: that of the files."""
    max_train_images: Positive | None
    """At most this many training images, with the hold-out; a stratified part. null: all."""
    max_test_images: Positive | None
    """At most this many test images; a stratified part. null: all."""
    test_share: Annotated[float, Field(gt=0, lt=1)]
    """Fraction of the images that become test images; stratified, of `digits`, and of a folder without test/ and val/."""
    holdout: Annotated[float, Field(gt=0, lt=1)]
    """Fraction of the training images on which candidates are scored; train/, val/ and test/: it is val/."""
    stream: bool
    """Decode images during training (for ImageNet); worker processes do so, instead of packing them into one array."""
    events: Events | None
    """How recordings of event cameras become frames; null for still images."""

    @model_validator(mode="after")
    def _fits_the_dataset(self) -> Self:
        if (self.dataset in ("nmnist", "events")) == (self.events is None):
            frames = "needs frames: set it to {frames: 4, split_by: number, clip: 15}, frames as network.T"
            still = "has still images: set it to null, or dataset to nmnist or events"
            raise ValueError(f"events: dataset {self.dataset} {still if self.events else frames}")
        if self.name is not None and self.known is not None:
            raise ValueError(f"name = {self.name!r} is for images of dataset folder, {self.dataset} has a name: set it to null")
        if self.name in DATASETS:
            raise ValueError(f"name = {self.name!r} is the name of another data set: choose another name")
        if self.stream and self.known is not None and not self.known.class_folders:
            raise ValueError(f"stream = true: {self.dataset} does not come as image files: set it to false")
        if self.stream and self.image_size is None and self.events is None:
            raise ValueError("stream = true: images need one size: set image_size, the side in pixels")
        return self

    @property
    def data_name(self) -> str:
        """The name of the images in summaries, reports, MLflow's runs and registered models, `name` where that is given."""
        if self.known is not None or self.name is not None:
            return self.name or self.dataset
        path = PurePath(self.path)
        folder = re.sub(r"[^A-Za-z0-9._-]+", "-", path.name).strip("-._")[:64]
        if not folder or path.parts[-2:] == ("data", "raw"):
            return self.dataset
        return f"{self.dataset}-{folder}" if folder in DATASETS else folder

    @property
    def known(self) -> KnownDataset | None:
        """What is known of the data set before its images are there; None of a folder."""
        return DATASETS.get(self.dataset)

    @property
    def reads_path(self) -> bool:
        """Whether the images are read from `path`."""
        return self.known is None or self.events is not None or self.is_downloadable

    @property
    def is_downloadable(self) -> bool:
        """Whether torchvision can download the images to `path`."""
        return self.known is not None and self.known.folder is not None

"""What meta.json says about the prepared images. No torch here."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from gee_core.config import Events, Positive, StrictModel
from gee_core.errors import InputError, as_input_error
from gee_core.storage.json_object import read_json_model

if TYPE_CHECKING:
    from gee_core.data.augment import Normalise

UNEVEN = 3
"""How many times as many training images the largest class may have as the smallest without being mentioned."""


class Meta(StrictModel):
    """What meta.json says about the images."""

    dataset: str
    """The name of the images: `prepare.data_name`."""
    source: str
    """What they come from, not the place of it. For streamed images, the root of the files."""
    class_names: tuple[str, ...]
    class_counts: tuple[Annotated[int, Field(ge=0)], ...]
    """Training images of each class, with the hold-out."""
    num_classes: Positive
    in_channels: Positive
    image_size: Positive
    """Side in pixels."""
    mean: tuple[float, ...]
    """Of each channel, of the training images in [0, 1]."""
    std: tuple[float, ...]
    n_train: Positive
    """With the hold-out."""
    n_test: Positive
    n_holdout: Positive
    stream: bool
    events: Annotated[Events | None, Field(exclude_if=lambda events: events is None)] = None
    """How recordings became frames, None for images."""
    sha256: dict[str, str]
    """Of every other file. For streamed images also of their files' names and sizes (`train_images`, `test_images`), which are
    compared when they are loaded, and of these files' contents (`train_contents`, `test_contents`), which are not."""

    @property
    def normalise(self) -> "Normalise":
        """Turns the images into the network's input."""
        from gee_core.data.augment import Normalise

        return Normalise(self.mean, self.std)

    @property
    def unevenness(self) -> str:
        """Says how uneven the classes are if the largest has more than UNEVEN times the training images of the smallest."""
        sizes = list(zip(self.class_counts, self.class_names, strict=True))
        (few, smallest), (many, largest) = (f(sizes, key=lambda pair: pair[0]) for f in (min, max))
        if many <= UNEVEN * few:
            return ""
        return f"{largest!r} has {many:,} training images, {many / max(few, 1):.1f} times as many as {smallest!r} with {few:,}"

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that are equal for equal images, labels, hold-out and class names, wherever they come from."""
        return hashlib.sha256(json.dumps([self.class_names, self.sha256], sort_keys=True).encode()).hexdigest()[:16]


def load_meta(folder: Path) -> Meta:
    """What meta.json in ``folder`` says. An InputError if it is missing or damaged."""
    path = existing(folder / "meta.json")
    with as_input_error(f"{path}: damaged"):
        return read_json_model(path, Meta)


def existing(path: Path) -> Path:
    """``path``. An InputError if there is no such file."""
    if not path.is_file():
        raise InputError(f"{path}: not found")
    return path

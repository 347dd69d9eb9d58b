"""What a user of an exported network needs in order to feed it and to read its answer: meta.json, also inside the files."""

from typing import Annotated

from pydantic import Field, model_validator

from gee_core.config import Events, StrictModel

CARD_ENTRY = "gee.card"
"""The key of the card in the metadata of ONNX and NIR files."""


class ModelCard(StrictModel, extra="ignore"):
    """The content of meta.json, and of the entry in the metadata of ONNX and NIR files."""

    network: str | None = None
    n_genes: int | None = None
    T: int | None = None
    """Time steps."""
    class_names: Annotated[tuple[str, ...], Field(min_length=1)]
    """In the order of the logits."""
    in_channels: Annotated[int, Field(ge=1, le=3)]
    image_size: Annotated[int, Field(ge=1, le=4096)]
    """Side in pixels."""
    mean: tuple[float, ...]
    """Of each channel, of images in [0, 1]."""
    std: tuple[float, ...]
    events: Annotated[Events | None, Field(exclude_if=lambda events: events is None)] = None
    """How recordings become frames: then the input is (T, P, H, W), `in_channels` polarities P. None for images."""

    @model_validator(mode="after")
    def _fits_the_channels(self) -> "ModelCard":
        if not len(self.mean) == len(self.std) == self.in_channels or 0 in self.std:
            raise ValueError(f"its mean and std are not those of {self.in_channels} channels")
        return self

"""What export tells a tracker about the model that it wrote."""

from dataclasses import dataclass
from pathlib import Path

FILES = ("network.onnx", "meta.json", "README.md", "example.png")
"""The files of an exported model."""

OTHERS = ("network.nir", "genes.safetensors")
"""Those that are beside them if NIR can express the network, and if `export.genes` names a format."""


@dataclass(frozen=True)
class ExportedModel:
    """A model to log, and to register under its name."""

    folder: Path
    """Holds FILES, and perhaps OTHERS."""
    name: str
    register: bool
    dataset: str
    digest: str
    """Of the prepared images: only metrics of the same images are compared."""
    metrics: dict[str, float]
    """Measured on the test images."""
    params: dict
    promote_metric: str
    """The best of its name by this one of ``metrics`` is the champion."""
    higher_is_better: bool

    def files(self) -> list[Path]:
        """Paths of FILES, and of those of OTHERS that are there."""
        others = (self.folder / name for name in OTHERS)
        return [*(self.folder / name for name in FILES), *(path for path in others if path.is_file())]

"""The files of the networks that come with the package, by name, and their cards. Nothing here loads torch."""

from pathlib import Path
from typing import Any

from safetensors import safe_open

from gee_core.errors import InputError, did_you_mean
from gee_core.export.model_card import ModelCard
from gee_core.storage.atomic_files import sha256
from gee_core.storage.json_object import as_model, parse_json_object

FOLDER = Path(__file__).parent


class PretrainedCard(ModelCard):
    """What a shipped file says of its network."""

    name: str
    """`ARCHITECTURE.DATA`."""
    accuracy: float
    """On all test images, in [0, 1], of the file's own int8 genes."""
    standard_error: float
    """Of the accuracy, by the number of test images."""
    test_images: int
    parameters: int
    energy_uj: float
    """Eq. 17, µJ per test image."""
    data: str
    """The images that it learned from."""
    data_licence: str
    licence: str
    paper: str
    command: str
    """What trained it, in a clone of the repository at `commit`."""
    seed: int
    commit: str
    machine: str
    hours: float
    """Of the whole command on that machine."""


def list_pretrained() -> list[str]:
    """The names that ``load_pretrained`` knows.

    Returns:
        The names, in the order of the alphabet.

    Examples:
        >>> "cifarnet.digits" in gee_core.list_pretrained()
        True
    """
    return sorted(_files())


def pretrained_card(name: str) -> PretrainedCard:
    """The card of a shipped network, without its tensors. Errors as of ``load_pretrained``."""
    return as_model(_header(name)["card"], PretrainedCard)


def has_nir_graph(name: str) -> bool:
    """Whether NIR can express a shipped network. It has no neurons that fire integers."""
    return _header(name)["architecture"]["network"].get("neuron") != "ilif"


def _header(name: str) -> dict[str, Any]:
    with safe_open(pretrained_file(name), "np") as file:
        (entry,) = file.metadata().values()
    return parse_json_object(entry)


def pretrained_file(name: str) -> Path:
    """The file of a shipped network, whose checksum its name has. Its ONNX graph lies next to it, with the ending .onnx."""
    files = _files()
    if name not in files:
        remedy = did_you_mean(str(name), files) or f"choose one of {', '.join(sorted(files))}"
        raise InputError(f"no trained network is called {name!r}", remedy)
    path = files[name]
    if sha256(path)[:8] != path.stem.rpartition("-")[2]:
        raise InputError(f"{path}: damaged, its checksum is not the one in its name", "install GEE again")
    return path


def _files() -> dict[str, Path]:
    return {path.stem.rpartition("-")[0]: path for path in FOLDER.glob("*.safetensors")}

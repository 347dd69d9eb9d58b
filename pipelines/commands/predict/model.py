"""Finds and reads the model that predicts: files of an export, or a model of MLflow.

ONNX Runtime runs ONNX files, torch a file of genes; torch is imported for the latter alone.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from gee_core.errors import InputError, in_short
from gee_core.export.model_card import ENTRY, ModelCard
from gee_core.storage.json_object import as_model, parse_json_object, read_json_model
from pipelines.project.paths import GENES, ONNX
from pipelines.tracking.classifier import Classifier

IN_MLFLOW = ("models:/", "runs:/")
"""How the addresses of MLflow's models begin."""

NETWORK, CARD = ONNX.name, "meta.json"

EXPORTED = f"name {ONNX.parent}, or the {ONNX.name} or {GENES.name} in it; `dvc repro export` makes them"
"""What to do about a file of another kind."""

IN_GENES = GENES.suffix
"""How the names of files end that are self-contained and hold genes."""


@dataclass(frozen=True)
class Model:
    """A network and what it says about itself."""

    place: str
    """Its file or its address in MLflow, for messages."""
    remedy: str
    """What to do about a damaged one."""
    card: ModelCard
    classify: Callable[[np.ndarray], np.ndarray]
    """As a `Classifier`."""

    def probabilities(self, images_BCHW: np.ndarray) -> np.ndarray:
        """(B, K), K the number of classes; arguments as for `Classifier`.

        Raises:
            InputError: the network does not take the images or answers with other than probabilities of its classes.
        """
        try:
            p_BK = self.classify(images_BCHW)
        except Exception as error:  # ONNX Runtime's errors have no other common base
            raise InputError(f"{self.place}: damaged ({in_short(error)})", self.remedy) from None
        n_classes = len(self.card.class_names)
        if p_BK.shape != (len(images_BCHW), n_classes):
            raise InputError(f"{self.place}: does not answer with {n_classes} classes, as its card says", self.remedy)
        if not np.isfinite(p_BK).all():
            raise InputError(f"{self.place}: answers with values that are not finite", self.remedy)
        return p_BK


def open_model(source: Path | str) -> Model:
    """The model at ``source``: an ONNX file with its card in its metadata or else in a meta.json beside it, a
    genes.safetensors, a folder with either or that MLflow wrote, or an address in MLflow (``models:/NAME@ALIAS``,
    ``models:/NAME/VERSION``, ``runs:/RUN/NAME``).

    Of a model of MLflow only the network and its description are read; none of the code that it carries runs.

    Raises:
        InputError: it is missing or damaged, or MLflow does not have it or cannot be reached.
    """
    if str(source).startswith(IN_MLFLOW):
        from pipelines.tracking.mlflow_models import download_model

        with tempfile.TemporaryDirectory() as folder:
            return _read(download_model(str(source), folder), str(source), "register it anew: `dvc repro -f export`")
    path = Path(source)
    ours, network = path.resolve() in (ONNX.resolve(), ONNX.parent.resolve()), _network(path)
    if not network.is_file():  # reading a pipe or a device could wait forever
        another = f"name an ONNX file of an export, a {GENES.name}, a folder with these, or models:/NAME@champion"
        made = "`dvc repro export` makes it, `dvc pull` fetches it"
        if ours and ONNX.with_name("network.safetensors").is_file():
            made = "torch cannot export this network: set export.genes to int8, and run `dvc repro export`"
        raise InputError(f"{network}: {'not a file' if network.exists() else 'not found'}", made if ours else another)
    if network.suffix not in (ONNX.suffix, IN_GENES):
        raise InputError(f"{network}: neither an ONNX file (.onnx) nor a file of genes (.safetensors)", EXPORTED)
    remedy = "`dvc repro -f export` recomputes it, `dvc pull` fetches it" if ours else "export the network again"
    return _read_genes(network, remedy) if network.suffix == IN_GENES else _read(network, str(network), remedy)


def _network(path: Path) -> Path:
    """The ONNX file, or else the file of genes, that is ``path`` or lies in it; MLflow keeps a model's among its artifacts."""
    if not path.is_dir():
        return path
    files = (path / NETWORK, path / "artifacts" / NETWORK, path / GENES.name)
    return next((file for file in files if file.is_file()), path / NETWORK)


def _read_genes(path: Path, remedy: str) -> Model:
    from gee_core.gene_file import read_header
    from pipelines.commands.predict.genes import open_genes

    try:
        header = read_header(path)
        if header is None:
            raise InputError(f"{path}: a checkpoint, not a file of genes", EXPORTED)
        card, classify = open_genes(path, header)
    except InputError as error:
        raise InputError(error.problem, error.remedy or remedy) from None
    return Model(str(path), remedy, card, classify)


def _read(network: Path, place: str, remedy: str) -> Model:
    try:
        session = onnxruntime.InferenceSession(network.read_bytes(), providers=["CPUExecutionProvider"])
        inside = session.get_modelmeta().custom_metadata_map.get(ENTRY)
    except OSError as error:
        raise InputError(f"{place}: cannot be read ({error.strerror})", remedy) from None
    except Exception as error:  # ONNX Runtime's errors have no other common base
        raise InputError(f"{place}: damaged ({in_short(error)})", remedy) from None
    card = _card_beside(network, place, remedy) if inside is None else _card_inside(inside, place, remedy)
    return Model(place, remedy, card, Classifier(session, card.mean, card.std))


def _card_inside(text: str, place: str, remedy: str) -> ModelCard:
    try:
        return as_model(parse_json_object(text), ModelCard)
    except ValueError as error:
        raise InputError(f"{place}: damaged ({ENTRY}: {error})", remedy) from None


def _card_beside(network: Path, place: str, remedy: str) -> ModelCard:
    """Of a network without a card inside."""
    path = network.with_name(CARD)
    if not path.is_file():
        raise InputError(f"{place}: lacks {ENTRY}, and {CARD} is not beside it", remedy)
    try:
        return read_json_model(path, ModelCard)
    except ValueError as error:
        raise InputError(f"{path if place == str(network) else place}: damaged ({error})", remedy) from None

"""The model of `gee predict`, and the classes that it sees in files. Torch is imported for a file of genes alone."""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import onnxruntime

from gee_core.errors import InputError, in_short
from gee_core.export.model_card import CARD_ENTRY, ModelCard
from gee_core.storage.json_object import as_model, parse_json_object
from pipelines.commands.images import raise_all, read_image
from pipelines.project.paths import GENES, ONNX
from pipelines.runtime.progress import progress
from pipelines.tracking.classifier import Classifier

IN_MLFLOW = ("models:/", "runs:/")
"""How the addresses of MLflow's models begin."""

EXPORTED = f"name {ONNX.parent}, or the {ONNX.name} or {GENES.name} in it; `dvc repro export` makes them"
"""The remedy for a file of another kind."""

ANOTHER = f"name an ONNX file of an export, a {GENES.name}, a folder with these, or models:/NAME@champion"
"""The remedy where there is no file."""

BATCH = 64
"""Most images that the network sees at once."""

BATCH_VALUES = 2**24
"""Most values in them, which bounds the memory: a batch of large images is smaller."""


class Prediction(NamedTuple):
    """A file, and the most probable classes in it, best first, with their probabilities."""

    file: Path
    top: list[tuple[str, float]]
    steps: int | None = None
    """How many steps the network ran, with early exit."""
    difference: str | None = None
    """How the image differs from the training images."""

    def as_json(self) -> dict[str, object]:
        """As `gee predict --json` prints it."""
        classes = [{"class": name, "probability": p} for name, p in self.top]
        return {"file": str(self.file), **classes[0], "top": classes} | ({"steps": self.steps} if self.steps else {})


@dataclass(frozen=True)
class Model:
    """A network and its card."""

    place: str
    """Its file or its address in MLflow, for messages."""
    remedy: str
    """The remedy for damage."""
    card: ModelCard
    classify: Callable[[np.ndarray], tuple[np.ndarray, Sequence[int | None]]]
    """uint8 images (B, C, H, W), or recordings (B, T, P, H, W), → probabilities (B, K), and steps of each, if it may exit."""

    def answers(self, images_BCHW: np.ndarray) -> tuple[np.ndarray, Sequence[int | None]]:
        """As ``classify``. Raises InputError where the network does not answer with probabilities of K classes."""
        try:
            p_BK, steps_B = self.classify(images_BCHW)
        except InputError:
            raise
        except Exception as error:  # ONNX Runtime's errors have no other common base
            raise InputError(f"{self.place}: damaged ({in_short(error)})", self.remedy) from None
        n_classes = len(self.card.class_names)
        if p_BK.shape != (len(images_BCHW), n_classes) or not np.isfinite(p_BK).all():
            answer = f"does not answer with finite probabilities of {n_classes} classes, as its card says"
            raise InputError(f"{self.place}: {answer}", self.remedy)
        return p_BK, steps_B


def predict(
    here: Path, files: Sequence[Path], model: Model, top: int = 1, problems: list[InputError] | None = None
) -> list[Prediction]:
    """The ``top`` classes of each image, brought to the size and channels that the network was trained on.

    Files that cannot be read are left out, and ``problems`` gets a problem of each. An InputError has a line for each if that
    is all of them; or the model does not answer as it should.
    """
    problems = [] if problems is None else problems
    card = model.card
    values = card.in_channels * card.image_size**2 * (card.events.frames if card.events else 1)
    size = max(1, min(BATCH, BATCH_VALUES // values))
    predictions: list[Prediction] = []
    with progress("predict", len(files)) if len(files) > size else nullcontext() as done:
        for start in range(0, len(files), size):
            batch, read = files[start : start + size], []
            for path in batch:
                try:
                    read.append((path, *read_image(here, path, card.in_channels, card.image_size, card.events)))
                except InputError as error:
                    problems.append(error)
            if read:
                p_BK, steps_B = model.answers(np.stack([image for _, image, _ in read]))
                for (path, _, difference), p_K, steps in zip(read, p_BK, steps_B, strict=True):
                    classes = [(card.class_names[k], float(p_K[k])) for k in np.argsort(-p_K, kind="stable")[:top]]
                    predictions.append(Prediction(path, classes, steps, difference))
            if done:
                done(len(batch))
    if not predictions:
        raise_all(problems)
    return predictions


def open_model(source: Path | str, confidence: float | None = None) -> Model:
    """The network in ``source``: an ONNX file or a file of genes, a folder with one of them, or a model's address in MLflow.

    With ``confidence``, it is a file of genes, whose network stops early on images of which it is so sure.

    Of a model of MLflow only the network and its card are read. None of the code that it carries runs.
    """
    if confidence is not None and Path(source).is_dir():
        source = Path(source) / GENES.name
    if confidence is not None and Path(source).suffix != GENES.suffix:
        raise InputError(f"--exit {confidence:g}: {source} runs all steps at once", f"give --model a {GENES.name}")
    if str(source).startswith(IN_MLFLOW):
        from pipelines.tracking.mlflow_models import download_model

        with tempfile.TemporaryDirectory() as folder:
            return _read(download_model(str(source), folder), str(source), "register it anew: `dvc repro -f export`")
    path = Path(source)
    ours, network = os.path.realpath(path) in map(os.path.realpath, (ONNX, ONNX.parent)), _network(path)
    if not network.is_file():  # reading a pipe or a device could wait forever
        remedy = ANOTHER
        if ours:
            remedy = "`dvc repro export` makes it, `dvc pull` fetches it"
        if ours and ONNX.with_name("network.safetensors").is_file():
            remedy = "torch cannot export this network: set export.genes to int8, and run `dvc repro export`"
        raise InputError(f"{network}: {'not a file' if network.exists() else 'not found'}", remedy)
    if network.suffix not in (ONNX.suffix, GENES.suffix):
        raise InputError(f"{network}: neither an ONNX file (.onnx) nor a file of genes (.safetensors)", EXPORTED)
    remedy = "`dvc repro -f export` recomputes it, `dvc pull` fetches it" if ours else "export the network again"
    return _read_genes(network, remedy, confidence) if network.suffix == GENES.suffix else _read(network, str(network), remedy)


def _network(path: Path) -> Path:
    """The ONNX file, or else the file of genes, that is ``path`` or lies in it. MLflow keeps a model's among its artifacts."""
    files = (path / ONNX.name, path / "artifacts" / ONNX.name, path / GENES.name)
    return next((file for file in files if file.is_file()), files[0]) if path.is_dir() else path


def _read(network: Path, place: str, remedy: str) -> Model:
    """A model in an ONNX file, with its card in the metadata."""
    try:
        session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
        card = as_model(parse_json_object(session.get_modelmeta().custom_metadata_map[CARD_ENTRY]), ModelCard)
    except KeyError:
        raise InputError(f"{place}: lacks {CARD_ENTRY} in its metadata", remedy) from None
    except Exception as error:  # ONNX Runtime's errors have no other common base
        raise InputError(f"{place}: damaged ({in_short(error)})", remedy) from None
    classifier = Classifier(session, card.mean, card.std)
    return Model(place, remedy, card, lambda images_BCHW: (classifier(images_BCHW), [None] * len(images_BCHW)))


def _read_genes(path: Path, remedy: str, confidence: float | None) -> Model:
    """A model in a file of genes, run by torch."""
    import torch

    from gee_core.data.augment import Normalise
    from gee_core.evaluation import early_exit
    from gee_core.gene_file import read_genes, read_header
    from gee_core.genome.copying import without_logs
    from gee_core.model.base import SpikingNetwork
    from gee_core.training.loop import for_inference
    from pipelines.inputs.own_network import register_if_configured
    from pipelines.inputs.remedies import remedy as otherwise

    with otherwise(remedy):
        header = read_header(path)
        if header is None:
            raise InputError(f"{path}: a checkpoint, not a file of genes", EXPORTED)
        try:
            card = as_model(header.card or {}, ModelCard)
        except ValueError as error:
            raise InputError(f"{path}: its card is not as gee predict needs it ({error})") from None
        register_if_configured(path, header)
        saved = read_genes(path, header)
        sizes = {"num_classes": len(card.class_names), "in_channels": card.in_channels, "image_size": card.image_size}
        for key, value in sizes.items():
            if (built := saved.built_with[key]) != value:
                raise InputError(f"{path}: its card says {key} = {value}, its network is for {built}")
        net, normalise = for_inference(saved), Normalise(card.mean, card.std)

    @torch.no_grad()
    def classify(images_BCHW: np.ndarray) -> tuple[np.ndarray, Sequence[int | None]]:
        x_BCHW = normalise(torch.from_numpy(images_BCHW))
        if confidence is None:
            return net(x_BCHW).mean(0).softmax(1).numpy(), [None] * len(images_BCHW)
        with without_logs("torch._library.triton"):  # SpikingJelly asks for Triton, and does without
            logits, steps_B = early_exit.classify(cast(SpikingNetwork, net), x_BCHW, confidence)
        return logits.softmax(1).numpy(), steps_B.tolist()

    return Model(str(path), remedy, card, classify)

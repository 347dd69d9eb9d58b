"""Finds and reads images for `gee predict` and `gee energy`, and the model of `gee predict`.

Torch is imported for a file of genes and for recordings alone: it takes seconds.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from PIL import Image

from gee_core.config import Events
from gee_core.data.folders import KINDS, endings_of, files_below
from gee_core.data.opening import opened
from gee_core.data.pixels import EXTENSIONS, GREY_MODES, to_pixels
from gee_core.errors import InputError, as_input_error, in_short, printable
from gee_core.export.model_card import CARD_ENTRY, ModelCard
from gee_core.storage.json_object import as_model, parse_json_object
from pipelines.project.paths import GENES, ONNX
from pipelines.runtime.progress import progress

IN_MLFLOW = ("models:/", "runs:/")
"""How the addresses of MLflow's models begin."""

NAME = f"name {ONNX.parent}, an ONNX file of an export, a {GENES.name}, a folder with these, or models:/NAME@champion"
MAKE = "`dvc repro -f export` makes it (set export.genes to int8 where torch exports no ONNX), `dvc pull` fetches it"
"""The remedies for a file that is none, and for one of this project."""

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


class Model(NamedTuple):
    """A network and its card."""

    place: str
    """Its file or its address in MLflow, for messages."""
    remedy: str
    """The remedy for damage."""
    card: ModelCard
    classify: Callable[[np.ndarray], tuple[np.ndarray, Sequence[int | None]]]
    """uint8 images (B, C, H, W), or recordings (B, T, P, H, W), → probabilities (B, K), and steps of each, if it may exit."""


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
                p_BK, steps_B = _answers(model, np.stack([image for _, image, _ in read]))
                for (path, _, difference), p_K, steps in zip(read, p_BK, steps_B, strict=True):
                    classes = [(card.class_names[k], float(p_K[k])) for k in np.argsort(-p_K, kind="stable")[:top]]
                    predictions.append(Prediction(path, classes, steps, difference))
            if done:
                done(len(batch))
    if problems and not predictions:
        raise InputError(in_lines(problems))
    return predictions


def _answers(model: Model, images_BCHW: np.ndarray) -> tuple[np.ndarray, Sequence[int | None]]:
    n_classes = len(model.card.class_names)
    try:
        p_BK, steps_B = model.classify(images_BCHW)
        if p_BK.shape != (len(images_BCHW), n_classes) or not np.isfinite(p_BK).all():
            raise ValueError(f"does not answer with finite probabilities of {n_classes} classes, as its card says")
    except Exception as error:  # ONNX Runtime's errors have no other common base
        raise InputError(f"{model.place}: damaged ({in_short(error)})", model.remedy) from None
    return p_BK, steps_B


def open_model(source: Path | str, confidence: float | None = None, update: Path | None = None) -> Model:
    """The network in ``source``: an ONNX file or a file of genes, a folder with one of them, or a model's address in MLflow.

    With ``confidence``, it is a file of genes, whose network stops early on images of which it is so sure. With ``update``, it
    is the base of that.

    Of a model of MLflow only the network and its card are read. None of the code that it carries runs.
    """
    path, in_mlflow = Path(source), str(source).startswith(IN_MLFLOW)
    if path.is_dir():
        from_onnx = confidence is None and update is None  # which needs no torch
        names = (ONNX.name, GENES.name) if from_onnx else (GENES.name,)
        path = next((path / name for name in names if (path / name).is_file()), path / names[0])
    if confidence is not None and (in_mlflow or path.suffix != GENES.suffix):
        raise InputError(f"--exit {confidence:g}: {source} runs all steps at once", f"give --model a {GENES.name}")
    if update is not None and (in_mlflow or path.suffix != GENES.suffix):
        raise InputError(f"--update {update}: {source} is no file of genes", "give --pretrained a name, or --model the base")
    if in_mlflow:
        from pipelines.tracking.mlflow_models import download_model

        with tempfile.TemporaryDirectory() as folder:
            return _read(download_model(str(source), folder), str(source), "register it anew: `dvc repro -f export`")
    ours = os.path.realpath(ONNX.parent) in map(os.path.realpath, (path, path.parent))
    remedy = MAKE if ours else NAME
    if not path.is_file():  # reading a pipe or a device could wait forever
        raise InputError(f"{path}: not found", remedy)
    return _read_genes(path, remedy, confidence, update) if path.suffix == GENES.suffix else _read(path, str(path), remedy)


def _read(network: Path, place: str, remedy: str) -> Model:
    """A model in an ONNX file, with its card in the metadata."""
    import onnxruntime

    from pipelines.tracking.classifier import Classifier

    onnxruntime.disable_telemetry_events()
    with as_input_error(f"{place}: damaged", Exception, remedy):  # ONNX Runtime's errors have no other common base
        session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
        card = as_model(parse_json_object(session.get_modelmeta().custom_metadata_map.get(CARD_ENTRY, "{}")), ModelCard)
    classifier = Classifier(session, card.mean, card.std)
    return Model(place, remedy, card, lambda images_BCHW: (classifier(images_BCHW), [None] * len(images_BCHW)))


def _read_genes(path: Path, remedy: str, confidence: float | None, update: Path | None) -> Model:
    """A model in a file of genes, with its ``update`` if there is one, run by torch."""
    import torch

    from gee_core.data.augment import Normalise
    from gee_core.evaluation import early_exit
    from gee_core.gene_file import read_genes, read_header
    from gee_core.model.base import SpikingNetwork, image_shape
    from gee_core.pretrained.shipped import updated_card
    from gee_core.training.loop import for_inference
    from gee_core.update_file import with_update
    from pipelines.inputs.own_network import register_if_configured
    from pipelines.runtime.input_errors import remedy as otherwise

    with otherwise(remedy):
        header = read_header(path)
        if header is None:
            raise InputError(f"{path}: a checkpoint, not a file of genes", NAME)
        with as_input_error(f"{path}: its card is not as gee predict needs it"):
            card = as_model(header.card or {}, ModelCard)
        register_if_configured(path, header)
        genetic, normalise = read_genes(path, header), Normalise(card.mean, card.std)
        if card.image_size != (side := image_shape(genetic, None, None)[1]):
            raise InputError(f"{path}: its card says image_size = {card.image_size}, its network is for {side}")
        if update is not None:
            genetic, card = with_update(update, genetic, header.sha256), updated_card(card, update)
            normalise = Normalise(card.mean, card.std)
        net = for_inference(genetic)

    @torch.no_grad()
    def classify(images_BCHW: np.ndarray) -> tuple[np.ndarray, Sequence[int | None]]:
        x_BCHW = normalise(torch.from_numpy(images_BCHW))
        if confidence is None:
            return net(x_BCHW).mean(0).softmax(1).numpy(), [None] * len(images_BCHW)
        logits, steps_B = early_exit.classify(cast(SpikingNetwork, net), x_BCHW, confidence)
        return logits.softmax(1).numpy(), steps_B.tolist()

    return Model(str(path), remedy, card, classify)


def find_images(here: Path, paths: Sequence[Path], endings: tuple[str, ...] = EXTENSIONS) -> list[Path]:
    """The files among ``paths``, and the images at any depth of the folders among them, sorted. They are relative to ``here``.

    Hidden files and folders and linked folders are left out. An InputError names a folder that holds no images. A file that is
    not there is left to the reader.
    """
    files: list[Path] = []
    for path in paths:
        folder = here / path
        images = sorted(path / file for file in files_below(folder, folder, endings)) if folder.is_dir() else [path]
        if not images:
            problem = f"{printable(str(path))}: holds no {KINDS[endings][0]} ({', '.join(endings)})"
            raise InputError(problem, "name image files, or folders that hold some")
        files += images
    return files


def read_image(
    here: Path, path: Path, in_channels: int, size: int, events: Events | None = None
) -> tuple[np.ndarray, str | None]:
    """The image as uint8 (C, H, W), H and W being ``size``, or a recording as (T, P, H, W). InputError where it is damaged.

    Next to it stands how an image differs from training images in colour, by far in size, or in shape, None if it does not.
    """
    endings = endings_of(events)
    kind, others, _ = KINDS[endings]
    if path.suffix.lower() in others:
        problem = f"{printable(str(path))}: the network takes {kind} ({', '.join(endings)})"
        raise InputError(problem, "leave it out, or name another network")
    if events is not None:
        from gee_core.data.recordings import decode_recording  # loads torch

        return decode_recording(here / path, in_channels, size, events), None
    with opened(here / path, printable(str(path))) as image:
        return to_pixels(image, in_channels, size), _difference(image, in_channels, size)


def _difference(image: Image.Image, in_channels: int, size: int) -> str | None:
    (short, long), in_colour = sorted(image.size), image.mode not in GREY_MODES
    if in_colour == (in_channels == 3) and size <= short <= 8 * size and long <= 1.5 * short:
        return None
    return f"{'in colour' if in_colour else 'grey'}, {image.width} × {image.height} pixels"


def in_lines(problems: Sequence[InputError | str]) -> str:
    """A line for each of the ``problems``, of many for the first twenty."""
    more = [f"… and {len(problems) - 20:,} more like these"] if len(problems) > 20 else []
    return "\n".join([*map(str, problems[:20]), *more])

"""A network in a file of genes, run by torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from gee_core.data.augment import Normalise
from gee_core.errors import InputError
from gee_core.export.model_card import ModelCard
from gee_core.gene_file import Header, load_genes
from gee_core.model.wired import architecture_of
from gee_core.storage.json_object import as_model
from gee_core.training.loop import for_inference
from pipelines.inputs.own_network import register_if_configured


def open_genes(path: Path, header: Header) -> tuple[ModelCard, Callable[[np.ndarray], np.ndarray]]:
    """The description in the file, and a function like `Classifier`: uint8 images (B, C, H, W) → probabilities (B, K).

    Raises:
        InputError: the file is damaged, holds no description of its images and classes, or one of another network; or it is an
            own network that params.yaml does not name.
    """
    if header.card is None:
        raise InputError(f"{path}: does not say which images it takes and which classes it knows")
    try:
        card = as_model(header.card, ModelCard)
    except ValueError as error:
        raise InputError(f"{path}: its card is not as gee predict needs it ({error})") from None
    register_if_configured(path, header)
    network = load_genes(path, header)
    shape = architecture_of(network)
    if (card.in_channels, card.image_size, len(card.class_names)) != (shape.in_channels, shape.image_size, shape.num_classes):
        raise InputError(f"{path}: its description is that of another network")
    net, normalise = for_inference(network), Normalise(card.mean, card.std)

    @torch.no_grad()
    def classify(images_BCHW: np.ndarray) -> np.ndarray:
        return net(normalise(torch.from_numpy(images_BCHW))).mean(0).softmax(1).numpy()

    return card, classify

"""The model card inside an ONNX file, which so says by itself how it is fed and what its answer means."""

import onnx
from onnx import helper

from gee_core.export.model_card import ENTRY, ModelCard

DOC = (
    "images: float32 (N, C, H, W), of uint8 pixels (pixels / 255 - mean) / std of each channel. logits: (N, classes); the "
    f"probabilities are their softmax. The metadata {ENTRY} has mean, std, image_size and class_names, as JSON."
)


def with_card(model: bytes, card: ModelCard) -> bytes:
    """The ONNX ``model`` with ``card`` as its only metadata, and a description of its input and output as its `doc_string`.

    Args:
        model: the content of an ONNX file.
        card: describes its images and classes.
    """
    proto = onnx.load_from_string(model)
    helper.set_model_props(proto, {ENTRY: card.model_dump_json()})
    proto.doc_string = DOC
    return proto.SerializeToString()

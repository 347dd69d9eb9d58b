"""The files of an exported model whose classes are the pixels: its answer shows each of them."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from gee_core.export.model_card import CARD_ENTRY
from pipelines.runtime.run_files import ExportedModel

SIZE = 4
README = "# A model\n\n    mlflow models serve -m models:/gee-digits-vgg16-g6@champion\n"


def write_exported(folder: Path, channels: int = 1) -> Path:
    """Write the files of a model that sees images of SIZE pixels; the path of its network."""
    folder.mkdir(parents=True, exist_ok=True)
    n_classes = channels * SIZE * SIZE
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", channels, SIZE, SIZE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", n_classes])
    graph = helper.make_graph([helper.make_node("Flatten", ["images"], ["logits"])], "flatten", [images], [logits])
    path = folder / "network.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    card = {"class_names": [f"pixel {k}" for k in range(n_classes)], "in_channels": channels, "image_size": SIZE}
    card |= {"mean": [0.3, 0.4, 0.5][:channels], "std": [0.2, 0.25, 0.3][:channels]}
    (folder / "meta.json").write_text(json.dumps(card))
    helper.set_model_props(model, {CARD_ENTRY: json.dumps(card)})
    onnx.save(model, path)
    (folder / "README.md").write_text(README)
    shown = np.zeros((SIZE, SIZE), np.uint8)
    shown[1, 2] = 255
    Image.fromarray(shown).save(folder / "example.png")
    return path


def exported_model(accuracy: float = 0.5, **changes: object) -> ExportedModel:
    """What export says of a model."""
    values = {
        "name": "gee-digits-vgg16-g6",
        "is_registered": True,
        "dataset": "digits",
        "digest": "0123456789abcdef",
        "metrics": {"test_accuracy": accuracy, "energy_mj": accuracy},
        "params": {"network": "vgg16", "n_genes": "6"},
        "time": 0,
    }
    return ExportedModel.model_validate(values | changes)

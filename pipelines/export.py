"""Stage export: writes the trained network as ONNX, compares it with torch, and registers it in MLflow."""

import numpy as np
import onnxruntime
import torch

from gee_core.config import Params
from gee_core.data.prepared import Meta, Prepared
from gee_core.export.model_card import ModelCard
from gee_core.export.to_onnx import to_onnx
from gee_core.model.network import SpikingNetwork
from gee_core.storage.atomic_files import write_atomically, write_json
from gee_core.training.loop import for_inference
from pipelines.inputs.prepared_images import prepared_images
from pipelines.inputs.trained_network import load_trained
from pipelines.project.paths import ONNX, REPORTS
from pipelines.stage import stage

OUT = REPORTS / "export"


def run(params: Params, net: SpikingNetwork, data: Prepared) -> tuple[bytes, dict, np.ndarray, np.ndarray]:
    """Export ``net``; returns the ONNX model, metrics, a batch of inputs, and its logits by ONNX Runtime."""
    meta = data.meta
    model = to_onnx(net, meta.in_channels, meta.image_size, params.export.opset)
    images, _ = next(data.test.batches(params.export.verify_images))
    x = meta.normalise(images).contiguous()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": x.numpy()})
    with torch.no_grad():
        expected = for_inference(net)(x).mean(0).numpy()
    metrics = {
        "max_abs_difference": float(np.abs(found - expected).max()),
        "agreement": float((found.argmax(1) == expected.argmax(1)).mean()),
        "onnx_bytes": len(model),
    }
    return model, metrics, x.numpy(), found


def model_card(params: Params, meta: Meta) -> ModelCard:
    """The description of the exported network for its users."""
    images = meta.model_dump(include={"class_names", "in_channels", "image_size", "mean", "std"})
    return ModelCard(network=params.network.name, n_genes=params.network.n_genes, **images)


def main() -> None:
    with stage("export") as s:
        data = prepared_images()
        net = load_trained(s.params, data.meta)
        model, metrics, x, logits = run(s.params, net, data)
        write_atomically(ONNX, model)
        write_json(ONNX.with_name("meta.json"), model_card(s.params, data.meta).model_dump())
        write_json(OUT / "metrics.json", metrics)
        s.track.params(s.params.export.model_dump())
        s.track.metrics(metrics)
        name = f"gee-{s.params.prepare.dataset}-{s.params.network.name}"
        s.track.model(ONNX, x, logits, name, s.params.export.register_model)


if __name__ == "__main__":
    main()

"""An exported network as a function from images to the probabilities of classes.

It needs numpy and ONNX Runtime alone, because MLflow models carry a copy of this file (`pipelines.tracking.served_model`).

Shapes: B images, C channels, H W rows and columns, K classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime


class Classifier:
    """The network of an ONNX file on the CPU.

    Args:
        network: the file, its content, or a session that has read it.
        mean: of each channel, of images in [0, 1].
        std: of each channel.

    Errors are those of ONNX Runtime, which have no common base.
    """

    def __init__(self, network: Path | bytes | onnxruntime.InferenceSession, mean: Sequence[float], std: Sequence[float]):
        self._scale_C = np.array([1 / (255 * s) for s in std], np.float32)[:, None, None]
        self._shift_C = np.array([-m / s for m, s in zip(mean, std, strict=True)], np.float32)[:, None, None]
        if not isinstance(network, onnxruntime.InferenceSession):
            network = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
        self._session = network

    def __call__(self, images_BCHW: np.ndarray) -> np.ndarray:
        """The probabilities (B, K) of uint8 images (B, C, H, W): the softmax of the logits."""
        (logits_BK,) = self._session.run(None, {"images": images_BCHW.astype(np.float32) * self._scale_C + self._shift_C})
        powers_BK = np.exp(logits_BK - logits_BK.max(1, keepdims=True))
        return powers_BK / powers_BK.sum(1, keepdims=True)

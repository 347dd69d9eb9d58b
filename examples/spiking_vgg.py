"""A SpikingJelly VGG as a network of your own.

Copy it to networks/my_vgg.py and set `network.name: networks.my_vgg:SpikingVGG` in params.yaml.
"""

from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

BODY = (32, 64, "pool", 128, 128, "pool", 256)
"""Channels of the convolutions, and 2x2 max pools."""


class SpikingVGG(nn.Module):
    """Images (B, C, H, W) → the output of every step (T, B, classes); its layers take all steps at once."""

    def __init__(self, num_classes: int, in_channels: int, image_size: int, T: int, width: float = 1.0, tau: float = 2.0):
        super().__init__()
        self.T = T
        layers: list[nn.Module] = []
        channels = in_channels
        for entry in BODY:
            if entry == "pool":
                if image_size > 1:
                    layers.append(layer.MaxPool2d(2))
                    image_size //= 2
                continue
            out = max(1, round(entry * width))
            layers += [layer.Conv2d(channels, out, 3, padding=1, bias=False), layer.BatchNorm2d(out), lif(tau)]
            channels = out
        self.features = nn.Sequential(*layers, layer.AdaptiveAvgPool2d(1), layer.Flatten())
        self.classifier = nn.Sequential(layer.Dropout(0.1), layer.Linear(channels, num_classes))
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W), the same at every step → (T, B, classes)."""
        return self.classifier(self.features(x.repeat(self.T, 1, 1, 1, 1)))


def lif(tau: float) -> neuron.LIFNode:
    """Neurons of one layer."""
    return neuron.LIFNode(tau=tau, v_threshold=0.5, detach_reset=True, surrogate_function=surrogate.ATan())

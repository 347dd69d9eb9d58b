"""A torchvision ResNet with spiking neurons in place of ReLU, as a network of your own.

Copy it to networks/my_resnet.py and set `network.name: networks.my_resnet:SpikingResNet` in params.yaml.
"""

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet


def lif() -> neuron.LIFNode:
    """Neurons of one layer; single-step, so that they keep their potential from one call to the next."""
    return neuron.LIFNode(tau=2.0, v_threshold=0.5, detach_reset=True, surrogate_function=surrogate.ATan())


class SpikingBlock(BasicBlock):
    """torchvision's block has one ReLU, which it uses twice; neurons have a state, so there are two."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.relu, self.relu2 = lif(), lif()

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (B, C, H, W) of one step → spikes."""
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu2(out + (x if self.downsample is None else self.downsample(x)))


class SpikingResNet(ResNet):
    """Images (B, C, H, W) → the output of every step (T, B, classes); its layers take one step at a time."""

    def __init__(self, num_classes: int, in_channels: int, image_size: int, T: int, width: float = 1.0):
        super().__init__(SpikingBlock, [1, 1, 1, 1])
        self.T = T
        channels = [max(1, round(width * C)) for C in (64, 128, 256, 512)]
        small = image_size <= 64
        self.inplanes = channels[0]
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, 1 if small else 2, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(channels[0]), lif()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            self._make_layer(SpikingBlock, C, 1, stride=1 if stage == 0 else 2) for stage, C in enumerate(channels)
        )
        self.fc = nn.Linear(channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W), the same at every step → (T, B, classes)."""
        return torch.stack([super(SpikingResNet, self).forward(x) for _ in range(self.T)])

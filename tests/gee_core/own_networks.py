"""Small networks as a user would write them: one step at a time, all steps at once, steps folded into the batch."""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from gee_core import LIF, build_network
from gee_core.model.base import SpikingNetwork
from tests.gee_core.lively import awake


def lif() -> neuron.LIFNode:
    triangle = surrogate.PiecewiseQuadratic(alpha=2.0)
    return neuron.LIFNode(tau=2.0, v_threshold=0.5, detach_reset=True, surrogate_function=triangle)


class OneStep(nn.Module):
    """Three convolutions, a pool, a linear head, of SpikingJelly layers in step_mode 's': it computes one step."""

    mode = "s"

    def __init__(self, num_classes, in_channels, image_size, width=1.0):
        super().__init__()
        C = round(8 * width)
        self.features = nn.Sequential(
            *(layer.Conv2d(in_channels, C, 3, padding=1, bias=False), layer.BatchNorm2d(C), lif()),
            *(layer.Conv2d(C, 2 * C, 3, padding=1, bias=False), layer.BatchNorm2d(2 * C), lif()),
            layer.MaxPool2d(2),
            *(layer.Conv2d(2 * C, 2 * C, 3, padding=1, bias=False), layer.BatchNorm2d(2 * C), lif()),
        )
        self.head = layer.Linear(2 * C, num_classes)
        functional.set_step_mode(self, self.mode)

    def forward(self, x):
        return self.head(self.features(x).mean((-2, -1)))


class AllSteps(OneStep):
    """``OneStep`` in step_mode 'm', for (T, B, C, H, W)."""

    mode = "m"


class VGG(OneStep):
    """``OneStep``, run T times."""

    def __init__(self, num_classes, in_channels, image_size, T, width=1.0):
        super().__init__(num_classes, in_channels, image_size, width)
        self.T = T

    def forward(self, x):
        return torch.stack([OneStep.forward(self, x) for _ in range(self.T)])


class MultiStep(VGG):
    """``AllSteps`` on T times the same images."""

    mode = "m"

    def forward(self, x):
        return OneStep.forward(self, x.repeat(self.T, 1, 1, 1, 1))


class Folded(nn.Module):
    """``VGG`` with its steps folded into the batch; takes T."""

    def __init__(self, num_classes, in_channels, image_size, T, width=1.0):
        super().__init__()
        C = round(8 * width)
        self.T = T
        self.features = nn.Sequential(
            *(nn.Conv2d(in_channels, C, 3, padding=1, bias=False), nn.BatchNorm2d(C), LIF(T)),
            *(nn.Conv2d(C, 2 * C, 3, padding=1, bias=False), nn.BatchNorm2d(2 * C), LIF(T)),
            nn.MaxPool2d(2),
            *(nn.Conv2d(2 * C, 2 * C, 3, padding=1, bias=False), nn.BatchNorm2d(2 * C), LIF(T)),
        )
        self.head = nn.Linear(2 * C, num_classes)

    def forward(self, x):
        return self.head(self.features(x.repeat(self.T, 1, 1, 1)).mean((-2, -1))).unflatten(0, (self.T, -1))


class WithDropout(MultiStep):
    """``MultiStep`` with SpikingJelly's dropout, which draws from torch's global generator, in front of its head."""

    def __init__(self, num_classes, in_channels, image_size, T):
        super().__init__(num_classes, in_channels, image_size, T)
        self.head = nn.Sequential(layer.Dropout(0.5, step_mode="m"), self.head)


class ResNet(nn.Module):
    """A stem and two basic blocks, the second with a 1x1 shortcut; multi-step neurons, steps repeated inside."""

    def __init__(self, num_classes, in_channels, image_size, T):
        super().__init__()
        self.T = T
        self.stem = nn.Sequential(layer.Conv2d(in_channels, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), lif())
        self.blocks = nn.ModuleList([Basic(8, 8, 1), Basic(8, 16, 2)])
        self.head = layer.Linear(16, num_classes)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        x = self.stem(x.repeat(self.T, 1, 1, 1, 1))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((-2, -1)))


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.first = nn.Sequential(
            layer.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False), layer.BatchNorm2d(channels), lif()
        )
        self.second = nn.Sequential(layer.Conv2d(channels, channels, 3, padding=1, bias=False), layer.BatchNorm2d(channels))
        same = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same else layer.Conv2d(in_channels, channels, 1, stride, bias=False)
        self.neurons = lif()

    def forward(self, x):
        return self.neurons(self.second(self.first(x)) + self.shortcut(x))


OWN = {f"networks.my:{build.__name__}": build for build in (VGG, MultiStep, Folded, ResNet, WithDropout)}
"""Every class by the name that the fixture ``own`` registers it under."""

THREE = ("networks.my:VGG", "networks.my:MultiStep", "networks.my:Folded")
"""One network in three ways to run its steps."""


def lively(name: str, n_genes: int | None = None, T: int = 3) -> tuple[SpikingNetwork, torch.Tensor]:
    """A registered network in evaluation mode whose neurons fire, though not all of them, and images (6, 1, 8, 8) for it.

    The networks of ``THREE`` have equal weights.
    """
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    net = awake(build_network(name, 5, 1, 8, n_genes, T=T), x)
    if name in THREE[:2]:
        net.load_state_dict(lively(THREE[2], n_genes, T)[0].state_dict())
    return net, x

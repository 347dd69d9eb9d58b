"""The networks of the table, genetically encoded or plain by one argument.

Shapes: T steps, B batch, C channels, H W space, K classes. Steps are folded into the batch, step-major: (T*B, C, H, W).
"""

import inspect
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gee_core.genome.encoding import attach_genome
from gee_core.model.zoo import NETWORKS, Block, NetworkSpec
from gee_core.seeding import private_torch_rng
from gee_core.snn.lif import LIF
from gee_core.snn.norm_lif import NormLIF

Net = TypeVar("Net", bound=nn.Module)


class Stem(nn.Module):
    """Direct encoding: the image drives the first neurons with the same current at every step.

    Paper: the image is repeated T times. Here: convolution and batch norm run once and their output is repeated, because
    their input does not change; Eq. 17 counts the stem once too.
    """

    def __init__(self, in_channels: int, channels: int, imagenet: bool, lif: dict):
        super().__init__()
        kernel, stride = (7, 2) if imagenet else (3, 1)
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False)
        self.norm_lif = NormLIF(channels, lif)
        self.pool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images (B, C, H, W) → spikes (T*B, C_0, H', W')."""
        return self.pool(self.norm_lif.repeated(self.conv(x_BCHW)))


class ConvLayer(nn.Module):
    """3x3 convolution, batch norm, LIF."""

    def __init__(self, in_channels: int, channels: int, lif: dict):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.norm_lif = NormLIF(channels, lif)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (T*B, C_in, H, W) → spikes (T*B, C, H, W)."""
        return self.norm_lif(self.conv(x))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut is added before the second LIF, without batch norm of its own."""

    def __init__(self, in_channels: int, channels: int, stride: int, lif: dict):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.norm_lif1 = NormLIF(channels, lif)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_lif2 = NormLIF(channels, lif)
        same = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (T*B, C_in, H, W) → spikes (T*B, C, H/stride, W/stride)."""
        spikes = self.norm_lif1(self.conv1(x))
        return self.norm_lif2(self.conv2(spikes), residual=self.shortcut(x))


class SpikingNetwork(nn.Module):
    """A network of the table; ``genome_of`` gives its genes where it is genetically encoded.

    Attributes:
        T: time steps.
        built_with: the arguments of ``build_network``, without ``n_genes`` and ``seed``; empty for a network made otherwise.
    """

    def __init__(self, spec: NetworkSpec, num_classes: int, in_channels: int, image_size: int, width: float, lif: dict):
        super().__init__()
        C = _scaled(spec.stem, width)
        size = image_size
        self.T = lif["T"]
        self.built_with: dict[str, Any] = {}
        self.stem = Stem(in_channels, C, spec.imagenet_stem, lif)
        if spec.imagenet_stem:
            size = math.ceil(math.ceil(size / 2) / 2)
        body: list[nn.Module] = []
        for layer in spec.body:
            if isinstance(layer, str):  # P
                if size > 1:  # Paper: 32x32 images only. Here: smaller ones skip the pools they have no pixels for.
                    body.append(nn.MaxPool2d(2))
                    size //= 2
            elif isinstance(layer, Block):
                body.append(BasicBlock(C, _scaled(layer.channels, width), layer.stride, lif))
                C, size = _scaled(layer.channels, width), math.ceil(size / layer.stride)
            else:
                body.append(ConvLayer(C, _scaled(layer, width), lif))
                C = _scaled(layer, width)
        self.body = nn.Sequential(*body)
        # Paper: a flattened head sees 2x2 positions at 32x32. Here: larger images are averaged down to the same 2x2.
        side = min(size, 2) if spec.flatten else 1
        self.pool = nn.AdaptiveAvgPool2d(side)
        features = C * side * side
        head: list[nn.Module] = []
        if spec.hidden is not None:
            hidden = nn.Linear(features, _scaled(spec.hidden, width))
            head += [hidden, LIF(**lif)]
            features = hidden.out_features
        self.head = nn.Sequential(*head, nn.Linear(features, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if spec.hidden is not None:
            # Paper: silent. Here: He's too, because with torch's default no hidden neuron fires before it is trained.
            nn.init.kaiming_normal_(hidden.weight, nonlinearity="relu")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The last layer's output at every step, o (T, B, K). Its mean over T are the logits."""
        features = self.pool(self.body(self.stem(x_BCHW))).flatten(1)
        return self.head(features).unflatten(0, (self.T, -1))

    def conv_chain(self) -> list[nn.Conv2d]:
        """The stem's convolution and every 3x3 one, in order of execution."""
        shortcuts = {m.shortcut for m in self.modules() if isinstance(m, BasicBlock)}
        return [m for m in self.modules() if isinstance(m, nn.Conv2d) and m not in shortcuts]


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def build_network(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 32,
    n_genes: int | None = None,
    width: float = 1.0,
    seed: int = 0,
    **lif: Any,
) -> SpikingNetwork:
    """A network of ``NETWORKS``: encoded with ``n_genes`` genes, or plain (He-initialised) with ``n_genes=None``.

    Args:
        name: key of ``NETWORKS``.
        num_classes: K.
        in_channels: 1 or 3.
        image_size: height and width of the images, in pixels.
        n_genes: g, or None for ordinary weights.
        width: multiplies every channel count of the table.
        seed: of every weight; torch's global generator is left as it was.
        lif: arguments of ``LIF``: T, tau, …

    Raises:
        ValueError: the name is unknown, or an argument is out of range.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}: choose one of {', '.join(NETWORKS)}")
    lif = {key: parameter.default for key, parameter in inspect.signature(LIF).parameters.items()} | lif
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    for argument, value in (sizes | {"T": lif["T"], "n_genes": n_genes}).items():
        if value is not None and value < 1:
            raise ValueError(f"{argument} must be >= 1, got {value}")
    if width <= 0:
        raise ValueError(f"width must be > 0, got {width}")
    with private_torch_rng(seed):
        net = SpikingNetwork(NETWORKS[name], num_classes, in_channels, image_size, width, lif)
    net.built_with = {"name": name, "width": width, **sizes, "lif": lif}
    if n_genes is not None:
        genome = attach_genome(net, net.conv_chain(), n_genes)
        genome.initialise(genome.analytic_genotype(), torch.Generator().manual_seed(seed))
    return net


def count_parameters(net: nn.Module) -> int:
    """Trainable numbers of ``net``, each shared one counted once."""
    return sum(p.numel() for p in net.parameters())


def count_plain_parameters(name: str, num_classes: int, in_channels: int, image_size: int, width: float = 1.0) -> int:
    """Parameters of a network of ``NETWORKS`` with ordinary weights; it is built, but its weights take no memory."""
    with torch.device("meta"):
        return count_parameters(build_network(name, num_classes, in_channels, image_size, None, width))


def to_channels_last(net: Net) -> Net:
    """``net``, its convolution weights put in channels-last layout in place: the fast one on CPU and GPU. Genes have none."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

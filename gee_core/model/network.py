"""The networks of the table, genetically encoded or plain by one argument.

Shapes: T steps, B batch, C channels, H W space, K classes. Steps are folded into the batch, step-major: (T*B, C, H, W).
"""

import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gee_core.genome.encoding import attach_genome
from gee_core.model.base import SpikingNetwork as SpikingNetwork
from gee_core.model.own import LIF_DEFAULTS, is_own, own_module, own_network
from gee_core.model.zoo import NETWORKS, Block, NetworkSpec, default_block, scaled
from gee_core.seeding import private_torch_rng
from gee_core.snn.lif import LIF
from gee_core.snn.norm_lif import NormLIF, add_stream

Net = TypeVar("Net", bound=nn.Module)


class Stem(nn.Module):
    """Direct encoding: the image drives the first neurons with the same current at every step.

    Paper: the image is repeated T times. Here: convolution and batch norm run once and their output is repeated, because
    their input does not change; Eq. 17 counts the stem once too.

    In front of pre-activation blocks, ``lif`` is None: the convolution's output is the stream itself, not yet repeated.
    """

    def __init__(self, in_channels: int, channels: int, imagenet: bool, lif: dict | None):
        super().__init__()
        kernel, stride = (7, 2) if imagenet else (3, 1)
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False)
        self.norm_lif = None if lif is None else NormLIF(channels, lif)
        self.pool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images (B, C, H, W) → spikes (T*B, C_0, H', W'), or the stream (B, C_0, H', W')."""
        x = self.conv(x_BCHW)
        return self.pool(x if self.norm_lif is None else self.norm_lif.repeated(x))


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


class Shortcut(nn.Module):
    """Batch norm, LIF and a 1x1 convolution, where a pre-activation block changes the shape of the stream."""

    def __init__(self, in_channels: int, channels: int, stride: int, lif: dict):
        super().__init__()
        self.norm_lif = NormLIF(in_channels, lif)
        self.conv = nn.Conv2d(in_channels, channels, 1, stride, bias=False)


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions, each behind batch norm and LIF; the branch is added to the real-valued stream without batch norm.

    The sum is left to the next block, whose batch norm reads the stream anyway.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, lif: dict):
        super().__init__()
        self.norm_lif1 = NormLIF(in_channels, lif)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.norm_lif2 = NormLIF(channels, lif)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        same = stride == 1 and in_channels == channels
        self.shortcut = None if same else Shortcut(in_channels, channels, stride, lif)

    def forward(self, stream: Tensor, branch: Tensor | None) -> tuple[Tensor, Tensor]:
        """Stream and branch of the block before → this block's, each (T*B, C, H/stride, W/stride).

        The first block takes the stem's output (B, C_0, H, W), the same at every step, and None. Without a shortcut, it returns
        that stream as it is, without the steps.
        """
        if branch is None:
            spikes = self.norm_lif1.repeated(stream)
        else:
            stream, spikes = self.norm_lif1.summed(branch, stream)
        if self.shortcut is not None:
            norm_lif = self.shortcut.norm_lif
            stream = self.shortcut.conv(norm_lif.repeated(stream) if branch is None else norm_lif(stream))
        return stream, self.conv2(self.norm_lif2(self.conv1(spikes)))


class ResidualStream(nn.Module):
    """Pre-activation blocks and the batch norm behind the last sum, which no neurons follow."""

    def __init__(self, blocks: list[nn.Module], channels: int):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, stream: Tensor) -> Tensor:
        """The stem's output (B, C_0, H, W) → features (T*B, C, H', W')."""
        branch: Tensor | None = None
        for block in self.blocks:
            stream, branch = block(stream, branch)
        assert branch is not None  # there is a block
        return self.norm(add_stream(branch, stream))


class TableNetwork(SpikingNetwork):
    """A network of the table."""

    def __init__(
        self,
        spec: NetworkSpec,
        num_classes: int,
        in_channels: int,
        image_size: int,
        width: float,
        block: str | None,
        pool: str,
        lif: dict,
    ):
        super().__init__(lif["T"])
        C = scaled(spec.stem, width)
        size = image_size
        self.stem = Stem(in_channels, C, spec.imagenet_stem, None if block == "pre" else lif)
        if spec.imagenet_stem:
            size = math.ceil(math.ceil(size / 2) / 2)
        body: list[nn.Module] = []
        for layer in spec.body:
            if isinstance(layer, str):  # P
                if size > 1:  # Paper: 32x32 images only. Here: smaller ones skip the pools they have no pixels for.
                    body.append(nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2))
                    size //= 2
            elif isinstance(layer, Block):
                channels = scaled(layer.channels, width)
                body.append((PreActivationBlock if block == "pre" else BasicBlock)(C, channels, layer.stride, lif))
                C, size = channels, math.ceil(size / layer.stride)
            else:
                body.append(ConvLayer(C, scaled(layer, width), lif))
                C = scaled(layer, width)
        # Paper: silent about batch norm. Here: pre-activation, the residual block of the authors' framework, fits its parameter
        # counts as well as `post`, which is kept.
        self.body = ResidualStream(body, C) if block == "pre" else nn.Sequential(*body)
        # Paper: a flattened head sees 2x2 positions at 32x32. Here: larger images are averaged down to the same 2x2.
        side = min(size, 2) if spec.flatten else 1
        self.pool = nn.AdaptiveAvgPool2d(side)
        features = C * side * side
        head: list[nn.Module] = []
        if spec.hidden is not None:
            hidden = nn.Linear(features, scaled(spec.hidden, width))
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
        """The stem's convolution and every one of the body, in order of execution."""
        shortcuts = {conv for block in self._blocks() if block.shortcut is not None for conv in block.shortcut.modules()}
        return [m for m in self.modules() if isinstance(m, nn.Conv2d) and m not in shortcuts]

    def branch_ends(self) -> list[tuple[nn.BatchNorm2d, nn.Conv2d]]:
        """The last batch norm and the last convolution of every residual branch, in order of execution."""
        return [(block.norm_lif2.norm, block.conv2) for block in self._blocks()]

    def _blocks(self) -> list[BasicBlock | PreActivationBlock]:
        return [m for m in self.modules() if isinstance(m, BasicBlock | PreActivationBlock)]


def build_network(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 32,
    n_genes: int | None = None,
    width: float = 1.0,
    seed: int = 0,
    block: str | None = None,
    pool: str = "max",
    **lif: Any,
) -> SpikingNetwork:
    """A network of ``NETWORKS``, or a registered one: encoded with ``n_genes`` genes, or plain with ``n_genes=None``.

    The weights that are not encoded are He's, or those of a registered network's own code.

    Args:
        name: key of ``NETWORKS``, or what ``register_network`` was told.
        num_classes: K.
        in_channels: 1 or 3.
        image_size: height and width of the images, in pixels.
        n_genes: g, or None for ordinary weights.
        width: multiplies every channel count of the table.
        seed: of every weight; torch's global generator is left as it was.
        block: form of the residual blocks, ``pre`` or ``post``; None for the network's default.
        pool: kind of the 2x2 pools, ``max`` or ``avg``.
        lif: arguments of ``LIF``: T, tau, … A registered network answers with T steps if T is named, else with any number.

    Raises:
        ValueError: the name is unknown, an argument is out of range, or a registered network cannot be built.
    """
    own, T = is_own(name), lif.get("T")
    if not own and name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}: choose one of {', '.join(NETWORKS)}")
    lif = LIF_DEFAULTS | lif
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    for argument, value in (sizes | {"T": lif["T"], "n_genes": n_genes}).items():
        if value is not None and value < 1:
            raise ValueError(f"{argument} must be >= 1, got {value}")
    if width <= 0:
        raise ValueError(f"width must be > 0, got {width}")
    default = None if own else default_block(name)
    if block is not None and (default is None or block not in ("pre", "post")):
        raise ValueError(f"block must be {'None' if default is None else 'pre or post'} for {name}, got {block!r}")
    if pool not in ("max", "avg"):
        raise ValueError(f"pool must be max or avg, got {pool!r}")
    block = block or default
    net: SpikingNetwork
    if own:
        net = own_network(name, num_classes, in_channels, image_size, width, pool, lif, seed, T)
        lif["T"] = net.T
    else:
        with private_torch_rng(seed):
            net = TableNetwork(NETWORKS[name], num_classes, in_channels, image_size, width, block, pool, lif)
    net.built_with = {"name": name, "block": block, "pool": pool, "width": width, **sizes, "lif": lif}
    if n_genes is not None:
        genome = attach_genome(net, net.conv_chain(), n_genes)
        genome.initialise(genome.analytic_genotype(), torch.Generator().manual_seed(seed))
    return net


def count_parameters(net: nn.Module) -> int:
    """Trainable numbers of ``net``, each shared one counted once."""
    return sum(p.numel() for p in net.parameters())


def count_plain_parameters(
    name: str, num_classes: int, in_channels: int, image_size: int, width: float = 1.0, block: str | None = None
) -> int:
    """Parameters of ``build_network``'s network with ordinary weights; one of ``NETWORKS`` takes no memory for them."""
    if is_own(name):
        with private_torch_rng(0):
            return count_parameters(own_module(name, num_classes, in_channels, image_size, width, "max", LIF_DEFAULTS))
    with torch.device("meta"):
        return count_parameters(build_network(name, num_classes, in_channels, image_size, None, width, block=block))


def to_channels_last(net: Net) -> Net:
    """``net``, its convolution weights put in channels-last layout in place: the fast one on CPU and GPU. Genes have none."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

"""The paper's networks as data. To add a network, add an entry to ``NETWORKS``.

A body is a tuple of layers, in order: a number is a 3x3 convolution with that many outputs (with batch norm and LIF), ``P``
a 2x2 max pool, ``Block`` a residual basic block of two 3x3 convolutions. Widths are the paper's; ``width`` scales them.
"""

from dataclasses import dataclass

P = "P"


@dataclass(frozen=True)
class Block:
    """A residual basic block; its shortcut is a 1x1 convolution, not encoded, where stride or channels change."""

    channels: int
    stride: int = 1


@dataclass(frozen=True)
class NetworkSpec:
    """One network of the table."""

    stem: int
    """Output channels of the stem convolution, C_0."""
    body: tuple[int | str | Block, ...]
    """The layers after the stem."""
    hidden: int | None = None
    """Neurons of a hidden fully connected layer with a LIF, if any."""
    flatten: bool = False
    """The head reads every position of a 2x2 map instead of the global average."""
    imagenet_stem: bool = False
    """7x7 convolution of stride 2 and a 3x3 max pool of stride 2, instead of one 3x3 convolution."""


def _stages(blocks: tuple[int, ...], channels: tuple[int, ...], first_stride: int = 1) -> tuple[Block, ...]:
    """Residual stages; every stage but the first starts with stride 2."""
    return tuple(
        Block(C, stride=(2 if stage else first_stride) if position == 0 else 1)
        for stage, (n_blocks, C) in enumerate(zip(blocks, channels, strict=True))
        for position in range(n_blocks)
    )


NETWORKS: dict[str, NetworkSpec] = {
    "cifarnet": NetworkSpec(256, (256, P, 256, 256, P, 512, 512, P, 1024, 1024)),
    "vgg16": NetworkSpec(64, (128, P, 256, 256, P, 512, 512, P, 512, 512, P), flatten=True),
    # Paper: only ΣC and the head of the wide one can be determined. Here: its order is our reading.
    "vgg16_wide": NetworkSpec(64, (128, P, 256, 256, P, 512, 512, P, 1024, 1024, P), flatten=True),
    "resnet18": NetworkSpec(128, _stages((2, 2, 2), (128, 256, 512)), hidden=256),
    "resnet19": NetworkSpec(128, _stages((3, 3, 2), (128, 256, 512)), hidden=256),
    "resnet34": NetworkSpec(64, _stages((3, 4, 6, 3), (64, 128, 256, 512)), imagenet_stem=True),
}


def default_block(name: str) -> str | None:
    """The form of the residual blocks of a network of ``NETWORKS``, ``pre``; None where it has none."""
    return "pre" if any(isinstance(layer, Block) for layer in NETWORKS[name].body) else None


def scaled(channels: int, width: float) -> int:
    """A channel count of the table at a width."""
    return max(1, round(channels * width))


def encoded_channels(name: str, width: float = 1.0) -> list[int]:
    """[C_0 … C_L]: outputs of the stem and of every 3x3 convolution, whose neurons have encodings."""
    spec = NETWORKS[name]
    layers = [layer for layer in spec.body if not isinstance(layer, str)]
    body = [C for layer in layers for C in ([layer.channels] * 2 if isinstance(layer, Block) else [layer])]
    return [scaled(channels, width) for channels in [spec.stem, *body]]


PAPER_RESULTS: tuple[dict, ...] = (
    # Table 2 (top-1 %, CIFAR-10 / CIFAR-100) and Table 1 (ImageNet), the rows of the paper's own method.
    {"network": "cifarnet", "n_genes": 100, "parameters": 3_721_754, "cifar10": 93.47, "cifar100": 72.97},
    {"network": "cifarnet", "n_genes": 200, "parameters": 7_438_154, "cifar10": 95.79, "cifar100": 75.05},
    {"network": "vgg16", "n_genes": 100, "parameters": 2_514_522, "cifar10": 94.47, "cifar100": 75.02},
    {"network": "vgg16_wide", "n_genes": 200, "parameters": 6_887_050, "cifar10": 95.57, "cifar100": 76.94},
    {"network": "resnet18", "n_genes": 100, "parameters": 3_659_418, "cifar10": 95.60, "cifar100": 77.32},
    {"network": "resnet18", "n_genes": 250, "parameters": 8_723_118, "cifar10": 96.26, "cifar100": 78.91},
    {"network": "resnet19", "n_genes": 100, "parameters": 4_352_154, "cifar10": 95.94, "cifar100": 77.56},
    {"network": "resnet19", "n_genes": 200, "parameters": 8_414_154, "cifar10": 96.80, "cifar100": 78.86},
    {"network": "resnet34", "n_genes": 146, "parameters": 10_750_000, "imagenet": 71.82},
)
"""Published numbers. ``parameters`` for ten classes, except resnet34's (1000; the paper prints 10.75M), and `post` blocks: with
`pre` the ResNets have 768 more, which the paper's digits do not show."""

"""The table of networks, and what an entry is made of: data, without torch. To add a network, add an entry to ``NETWORKS``."""

from dataclasses import dataclass, replace

P = "P"
A = "A"


@dataclass(frozen=True)
class Block:
    """A residual basic block; its shortcut is a 1x1 convolution, not encoded, where stride or channels change."""

    channels: int
    stride: int = 1


@dataclass(frozen=True)
class Dropout:
    """Dropout of spikes with probability ``p``, during training only; every step drops the same neurons."""

    p: float


@dataclass(frozen=True)
class NetworkSpec:
    """One network of the table.

    A body is a tuple of layers, in order: a number is a convolution with that many outputs (with batch norm and LIF), ``P`` a
    2x2 pool of the kind `network.pool`, ``A`` a 2x2 average pool (behind it spikes are no longer binary), ``Dropout``, or
    ``Block``, a residual basic block of two convolutions. A body of blocks has nothing else.
    """

    stem: int
    """Output channels of the stem convolution, C_0."""
    body: tuple[int | str | Block | Dropout, ...]
    """The layers after the stem."""
    hidden: int | None = None
    """Neurons of a hidden fully connected layer with a LIF, if any."""
    flatten: bool = False
    """The head reads every position of a 2x2 map instead of the global average."""
    imagenet_stem: bool = False
    """7x7 convolution of stride 2 and a 3x3 max pool of stride 2, instead of one convolution with the others' kernel."""
    kernel: int = 3
    """Side of the convolutions' kernels, odd. All encoded ones share it; shortcuts stay 1x1."""

    def scaled(self, width: float, tilt: float) -> "NetworkSpec":
        """The network with its channels times ``width``, those of the last layer ``tilt`` times as much as the stem's."""
        n = sum(not isinstance(layer, str | Dropout) for layer in self.body)
        factors = iter([width * tilt ** (place / n - 0.5) for place in range(n + 1)])

        def times(channels: int, factor: float) -> int:
            return max(1, round(channels * factor))

        stem, body = times(self.stem, next(factors)), list[int | str | Block | Dropout]()
        for layer in self.body:
            if isinstance(layer, Block):
                layer = replace(layer, channels=times(layer.channels, next(factors)))
            elif isinstance(layer, int):
                layer = times(layer, next(factors))
            body.append(layer)
        hidden = None if self.hidden is None else times(self.hidden, width * tilt**0.5)
        return replace(self, stem=stem, body=tuple(body), hidden=hidden)

    def convolutions(self) -> list[int]:
        """Outputs of every encoded convolution of the body, in order, at full width."""
        outputs = ([layer.channels] * 2 if isinstance(layer, Block) else [layer] for layer in self.body)
        return [C for of_layer in outputs for C in of_layer if isinstance(C, int)]


def stages(blocks: tuple[int, ...], channels: tuple[int, ...]) -> tuple[Block, ...]:
    """Residual stages; every stage but the first starts with stride 2."""
    return tuple(
        Block(C, stride=2 if stage and position == 0 else 1)
        for stage, (n_blocks, C) in enumerate(zip(blocks, channels, strict=True))
        for position in range(n_blocks)
    )


NETWORKS: dict[str, NetworkSpec] = {
    # The paper's, with its widths.
    "cifarnet": NetworkSpec(256, (256, P, 256, 256, P, 512, 512, P, 1024, 1024)),
    "vgg16": NetworkSpec(64, (128, P, 256, 256, P, 512, 512, P, 512, 512, P), flatten=True),
    # Paper: only ΣC and the head of the wide one can be determined. Here: its order is our reading.
    "vgg16_wide": NetworkSpec(64, (128, P, 256, 256, P, 512, 512, P, 1024, 1024, P), flatten=True),
    "resnet18": NetworkSpec(128, stages((2, 2, 2), (128, 256, 512)), hidden=256),
    "resnet19": NetworkSpec(128, stages((3, 3, 2), (128, 256, 512)), hidden=256),
    "resnet34": NetworkSpec(64, stages((3, 4, 6, 3), (64, 128, 256, 512)), imagenet_stem=True),
    # Fang et al. 2021, for DVS128 Gesture: they flatten 4x4 maps, and ten outputs vote for each class.
    "dvsnet": NetworkSpec(128, (P, 128, P, 128, P, 128, P, 128, P, Dropout(0.5)), hidden=512, flatten=True),
}

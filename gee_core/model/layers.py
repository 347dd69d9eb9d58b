"""The layers of the table's networks.

Shapes: T steps, B batch, C channels, H W space. Steps are folded into the batch, step-major: (T*B, C, H, W).
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gee_core.snn.lif import Neurons
from gee_core.snn.norm_lif import NormLIF, add_stream

MakeNeurons: TypeAlias = Callable[[], Neurons]
"""Makes the neurons of one layer."""


class Stem(nn.Module):
    """Direct encoding: the image drives the first neurons with the same current at every step.

    Paper: the image is repeated T times. Here: convolution and batch norm run once and their output is repeated, because
    their input does not change. Eq. 17 counts the stem once too. Frames (T, B, C, H, W) change: both run at every step.
    """

    def __init__(self, in_channels: int, channels: int, kernel: int, imagenet: bool, neurons: MakeNeurons | None):
        super().__init__()
        kernel, stride = (7, 2) if imagenet else (kernel, 1)
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False)
        self.norm_lif = None if neurons is None else NormLIF(channels, neurons())
        self.pool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Images or frames → spikes (T*B, C_0, H', W'). Without ``neurons`` the stream, of images (B, C_0, H', W')."""
        changes = x.ndim == 5
        x = self.conv(x.flatten(0, 1) if changes else x)
        if self.norm_lif is not None:
            x = self.norm_lif(x) if changes else self.norm_lif.repeated(x)
        return self.pool(x)


class ConvLayer(nn.Module):
    """Convolution, batch norm, LIF."""

    def __init__(self, in_channels: int, channels: int, kernel: int, neurons: MakeNeurons):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=False)
        self.norm_lif = NormLIF(channels, neurons())

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (T*B, C_in, H, W) → spikes (T*B, C, H, W)."""
        return self.norm_lif(self.conv(x))


class StepDropout(nn.Module):
    """Dropout of the same neurons at every step, as in SpikingJelly's multi-step mode. Nothing in evaluation mode."""

    def __init__(self, p: float, T: int):
        super().__init__()
        self.p, self.T = p, T

    def forward(self, spikes: Tensor) -> Tensor:
        """Spikes (T*B, C, H, W) → the same, those that are kept divided by 1 - p."""
        if not self.training:
            return spikes
        kept = F.dropout(torch.ones_like(spikes[: len(spikes) // self.T]), self.p)
        return spikes * kept.repeat(self.T, 1, 1, 1)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class StridedPointwise(nn.Conv2d):
    """A 1x1 convolution with a stride, without bias. It strides first.

    With AVX-512, oneDNN may else write past its memory in the weight gradient of few in-channels in channels-last layout:
    https://github.com/uxlfoundation/oneDNN/issues/6035, open in oneDNN 3.12, that of torch 2.13.
    """

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(T*B, C_in, H, W) → (T*B, C, H/stride, W/stride)."""
        return F.conv2d(x[..., :: self.stride[0], :: self.stride[1]], self.weight)


class BasicBlock(nn.Module):
    """Two convolutions. The shortcut is added before the second LIF, without batch norm of its own."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, neurons: MakeNeurons):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=False)
        self.norm_lif1 = NormLIF(channels, neurons())
        self.conv2 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
        self.norm_lif2 = NormLIF(channels, neurons())
        same = stride == 1 and in_channels == channels
        self.shortcut = nn.Identity() if same else StridedPointwise(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (T*B, C_in, H, W) → spikes (T*B, C, H/stride, W/stride)."""
        spikes = self.norm_lif1(self.conv1(x))
        return self.norm_lif2(self.conv2(spikes), residual=self.shortcut(x))


class Shortcut(nn.Module):
    """Batch norm, LIF and a 1x1 convolution, where a pre-activation block changes the shape of the stream."""

    def __init__(self, in_channels: int, channels: int, stride: int, neurons: MakeNeurons):
        super().__init__()
        self.norm_lif = NormLIF(in_channels, neurons())
        self.conv = StridedPointwise(in_channels, channels, stride)


class PreActivationBlock(nn.Module):
    """Two convolutions, each after batch norm and LIF. The next block adds the branch to the real-valued stream."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, neurons: MakeNeurons):
        super().__init__()
        self.norm_lif1 = NormLIF(in_channels, neurons())
        self.conv1 = nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=False)
        self.norm_lif2 = NormLIF(channels, neurons())
        self.conv2 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
        same = stride == 1 and in_channels == channels
        self.shortcut = None if same else Shortcut(in_channels, channels, stride, neurons)

    def forward(self, stream: Tensor, branch: Tensor | None, changes: bool) -> tuple[Tensor, Tensor]:
        """Stream and branch of the block before → this block's, each (T*B, C, H/stride, W/stride).

        The first block takes the stem's output and None: (T*B, C_0, H, W) if it ``changes``, else (B, C_0, H, W).
        """
        if branch is None:
            spikes = self.norm_lif1(stream) if changes else self.norm_lif1.repeated(stream)
        else:
            stream, spikes = self.norm_lif1.summed(branch, stream)
        spikes = self.norm_lif2(self.conv1(spikes))  # before the shortcut: a counter takes these neurons for those after conv1
        if self.shortcut is not None:
            norm_lif = self.shortcut.norm_lif
            stream = self.shortcut.conv(norm_lif(stream) if changes or branch is not None else norm_lif.repeated(stream))
        return stream, self.conv2(spikes)


class ResidualStream(nn.Module):
    """Pre-activation blocks and the batch norm after the last sum, which no neurons follow."""

    def __init__(self, blocks: list[nn.Module], channels: int):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, stream: Tensor, changes: bool = False) -> Tensor:
        """The stem's output → features (T*B, C, H', W')."""
        branch: Tensor | None = None
        for block in self.blocks:
            stream, branch = block(stream, branch, changes)
        assert branch is not None  # there is a block
        return self.norm(add_stream(branch, stream))

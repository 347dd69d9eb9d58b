"""Narrow residual networks on a CPU without AVX-512, where oneDNN writes past its memory (its issue 6035)."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from gee_core.model.base import to_channels_last
from gee_core.model.layers import StridedPointwise

NARROW = """
import torch
from gee_core import build_network
from gee_core.model.layers import StridedPointwise

for block in ("pre", "post"):
    net = build_network("resnet34", 5, 1, 64, n_genes=6, width=1 / 16, block=block).train()
    net(torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))).square().sum().backward()
conv = StridedPointwise(4, 8, 2)
conv.weight.data = conv.weight.data.to(memory_format=torch.channels_last)
x = torch.rand(16, 4, 16, 16, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
for _ in range(50):
    conv.weight.grad = None
    conv(x).sum().backward()
expected = x[..., ::2, ::2].double().sum((0, 2, 3)).float().expand(8, 4)[..., None, None]
torch.testing.assert_close(conv.weight.grad, expected)
"""


@pytest.mark.slow
def test_a_narrow_residual_network_trains_with_avx2_alone():
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", NARROW], env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(("in_channels", "size"), [(3, 7), (16, 1), (32, 8)])
def test_a_strided_shortcut_equals_torchs_convolution(in_channels, size):
    ours, torchs = StridedPointwise(in_channels, 8, 2), nn.Conv2d(in_channels, 8, 1, 2, bias=False)
    to_channels_last(ours)
    torchs.load_state_dict(ours.state_dict())
    x = torch.rand(6, in_channels, size, size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), torchs(x))
        assert ours(x).is_contiguous(memory_format=torch.channels_last)

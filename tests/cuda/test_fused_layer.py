"""The fused batch norm and LIF on the device == on the CPU, in float32."""

import itertools

import pytest
import torch

from gee_core.snn import kernels
from tests.gee_core.snn.test_norm_lif import CALLS, B, T, draw, lively

MARGIN = 1e-5
"""Least distance of a membrane from the threshold at which the order of a sum, an error of about 1e-6, cannot move a spike."""


def run(module, call, device):
    """([sum if there is one, spikes], gradients of inputs and parameters, batch norm's buffers) of an entry of ``CALLS``."""
    function, *rows = CALLS[call]
    module = module.to(device)
    inputs = [draw(n, seed).to(device).requires_grad_() for seed, n in enumerate(rows, 1)]
    outputs = function(module, *inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    torch.autograd.backward(outputs, [draw(T * B, 3 + i).to(device) for i in range(len(outputs))])
    gradients = [t.grad for t in [*inputs, *module.parameters()] if t.grad is not None]  # none of an input that is detached
    return tuple([t.detach().cpu() for t in part] for part in (outputs, gradients, module.norm.buffers()))


@pytest.mark.parametrize("call", CALLS)
def test_spikes_and_gradients_are_those_of_the_cpu(call, device):
    """Spikes equal, gradients and statistics to 1e-5 of the largest."""
    module, currents = lively().train(), []
    module.lif.register_forward_pre_hook(lambda lif, args: currents.append(args[0].detach()))  # a hook: not fused
    separate, fused = run(module, call, "cpu"), run(lively().train(), call, device)
    h = kernels._membrane_TN(currents[0].double().reshape(T, -1), 2.0, True, 0.5)
    assert (h - 0.5).abs().min() > MARGIN
    assert torch.equal(fused[0][-1], separate[0][-1])
    assert 0.1 < separate[0][-1].mean() < 0.9
    for a, b in zip(itertools.chain(*fused), itertools.chain(*separate), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * max(1.0, b.abs().max().item()))

"""The fused batch norm and LIF on the device == on the CPU == SpikingJelly's layers on the device, in float32."""

import pytest
import torch

from gee_core.snn import kernels
from tests.gee_core.snn.test_norm_lif import CALLS, B, T, draw, lively, of_spikingjelly

MARGIN = 1e-5
"""Least distance of a membrane from the threshold at which the order of a sum, an error of about 1e-6, cannot move a spike."""


def run(module, call, device, dtype=torch.float32):
    """([sum if there is one, spikes], gradients of inputs and parameters, batch norm's buffers) of an entry of ``CALLS``."""
    function, *rows = CALLS[call]
    module = module.to(device)
    inputs = [draw(n, seed, dtype).to(device).requires_grad_() for seed, n in enumerate(rows, 1)]
    outputs = function(module, *inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    torch.autograd.backward(outputs, [draw(T * B, 3 + i, t.dtype).to(device) for i, t in enumerate(outputs)])
    gradients = [t.grad for t in [*inputs, *module.parameters()] if t.grad is not None]  # none of an input that is detached
    return tuple([t.detach().cpu() for t in part] for part in (outputs, gradients, module.norm.buffers()))


def separate_modules(call, device="cpu", dtype=torch.float32):
    """``run`` of batch norm, sum and neurons one after the other, and the least distance of a membrane from the threshold."""
    module, currents = lively().train(), []
    module.lif.register_forward_pre_hook(lambda lif, args: currents.append(args[0].detach().cpu()))  # a hook: not fused
    found = run(module, call, device, dtype)
    (x,) = currents
    h = kernels._membrane_TN(x.double().reshape(T, -1), 2.0, True, 0.5)
    return *found, (h - 0.5).abs().min().item()


@pytest.mark.parametrize("call", CALLS)
def test_spikes_and_gradients_are_those_of_the_cpu(call, device):
    """Spikes equal, gradients and statistics to 1e-5 of the largest."""
    expected, gradients, buffers, margin = separate_modules(call)
    assert margin > MARGIN
    found = run(lively().train(), call, device)
    assert torch.equal(found[0][-1], expected[-1])
    assert 0.1 < expected[-1].mean() < 0.9
    for a, b in zip([*found[0], *found[1], *found[2]], [*expected, *gradients, *buffers], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * max(1.0, b.abs().max().item()))


def test_spikes_and_gradients_are_those_of_spikingjellys_layers(device):
    module = lively().train().to(device)
    norm, node = (part.to(device) for part in of_spikingjelly(module))
    x, grad = draw(T * B, 1).to(device), draw(T * B, 3).to(device)
    y, z = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours, theirs = module(y), node(norm(z.unflatten(0, (T, B)))).flatten(0, 1)
    assert torch.equal(ours, theirs)
    ours.backward(grad)
    theirs.backward(grad)
    torch.testing.assert_close(y.grad, z.grad, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(module.norm.weight.grad, norm.weight.grad, rtol=1e-5, atol=2e-5)

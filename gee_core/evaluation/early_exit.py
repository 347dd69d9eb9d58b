"""Early exit: an image leaves at the first step at which the network is sure of it, and needs no further ones.

The network is sure at step t where the greatest probability of softmax(1/t·Σ_{i ≤ t} o_i) is at least a confidence. The
images of which it never is leave after all T steps, with the outputs that they have without early exit.

Shapes: T steps, B batch, C channels, H W space, K classes.
"""

import torch
from torch import Tensor

from gee_core.errors import InputError
from gee_core.model.base import SpikingNetwork, with_steps
from gee_core.snn.lif import LIF


def find_exits(o_TBK: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """The logits (B, K) with which each image leaves, and after how many steps (B,), from the outputs of all steps."""
    T, B, _ = o_TBK.shape
    steps_T = torch.arange(1, T + 1, device=o_TBK.device)
    mean_TBK = o_TBK.float().cumsum(0) / steps_T[:, None, None]
    sure_TB = _sure(mean_TBK, confidence)
    sure_TB[-1] = True
    first_B = sure_TB.int().argmax(0)
    return mean_TBK[first_B, torch.arange(B, device=o_TBK.device)], first_B + 1


@torch.no_grad()
def classify(net: SpikingNetwork, x: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """As ``find_exits``, of a ``net`` in evaluation mode, which runs step by step, and no further for an image that has left.

    ``x`` has the images, (B, C, H, W), or the frames of recordings, (T, B, C, H, W), of which step t sees frame t.

    Raises:
        InputError: ``net`` is an own network, which runs the steps of its code.
    """
    if not net.changes_T:
        raise InputError("your own network runs all steps of its code", "leave out early exit")
    frames, B = x.ndim == 5, x.shape[-4]
    neurons, T, left = [module for module in net.modules() if isinstance(module, LIF)], net.T, torch.arange(B)
    steps_B = torch.full((B,), T)
    logits, total = x.new_zeros(0, 0), torch.zeros((), device=x.device)
    try:
        with with_steps(net, 1):
            for neuron in neurons:
                neuron.step_mode = "s"  # SpikingJelly's: a call is a step, and the membrane is kept for the next one
            for t in range(1, T + 1):
                total = total + net(x[t - 1 : t] if frames else x)[0].float()
                mean = total / t
                logits = mean.new_zeros(len(steps_B), mean.shape[1]) if t == 1 else logits
                gone = _sure(mean, confidence) | (t == T)
                logits[left[gone]], steps_B[left[gone]] = mean[gone], t
                left, x, total = left[~gone], x[:, ~gone] if frames else x[~gone], total[~gone]
                if not len(left):
                    break
                for neuron in neurons:
                    neuron.v = neuron.v[~gone]
    finally:
        for neuron in neurons:
            neuron.step_mode = "m"
            neuron.reset()
    return logits, steps_B


def _sure(logits: Tensor, confidence: float) -> Tensor:
    return logits.softmax(-1).amax(-1) >= confidence

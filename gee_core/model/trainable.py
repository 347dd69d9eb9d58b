"""A trial of an own network in training mode, before anything is trained.

Shapes: T steps, B batch, C channels, H W space, K classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from gee_core.errors import raises
from gee_core.genome.copying import copied
from gee_core.model.base import SpikingNetwork
from gee_core.model.own import example_images
from gee_core.seeding import private_torch_rng


@torch.enable_grad()
def check_trainable(net: SpikingNetwork) -> None:
    """Run a copy of the own network ``net``, as ``build_network`` made it, forwards and backwards in training mode.

    Raises:
        ValueError: it raises, returns something else than in evaluation mode or values that are not finite, or no gradient
            reaches a parameter.
    """
    probe = copied(net).train()
    K, C, size = (net.built_with[key] for key in ("num_classes", "in_channels", "image_size"))
    x_BCHW = example_images(net.T, C, size).contiguous(memory_format=torch.channels_last)
    returned: list[object] = []  # by the user's module, in every call of it
    probe.get_submodule("net").register_forward_hook(lambda module, inputs, output: returned.append(output))
    with private_torch_rng(0):
        try:
            o_TBK = probe(x_BCHW)
        except (Exception, SystemExit) as error:
            raise ValueError(f"in training mode it {_returns(returned) or raises(error)}") from error
        if wrong := _returns(returned):
            raise ValueError(f"in training mode it {wrong}")
        if o_TBK.shape != (net.T, len(x_BCHW), K):
            wanted = (net.T, len(x_BCHW), K)
            raise ValueError(f"in training mode its output has the shape {tuple(o_TBK.shape)}, in evaluation mode {wanted}")
        if not o_TBK.isfinite().all():
            raise ValueError("in training mode it answers random images with values that are not finite (NaN or infinite)")
        if not o_TBK.requires_grad:
            raise ValueError(
                "in training mode no gradient reaches a parameter: all are frozen, or forward runs under no_grad or detaches"
            )
        try:
            F.cross_entropy(o_TBK.float().mean(0), torch.zeros(len(x_BCHW), dtype=torch.long)).backward()
        except (Exception, SystemExit) as error:
            raise ValueError(f"in training mode its backward pass {raises(error)}") from error


def _returns(returned: list[object]) -> str:
    """What is wrong with the kind of what was ``returned``; empty where all are tensors."""
    return next((f"returns a {type(o).__name__}, not a tensor" for o in returned if not isinstance(o, Tensor)), "")

"""What ``torch.cuda.make_graphed_callables`` does, on a CPU: a graph sees what is in its own memory, and writes there."""

import weakref

import torch
from torch import nn

from gee_core.model.network import count_parameters

WARM_UPS = 3


def make_graphed_callables(callables, sample_args, num_warmup_iters=WARM_UPS, allow_unused_input=False):
    """The module ``callables``, whose passes run on the tensors ``sample_args`` and always return the same tensors.

    As in torch, it runs a few times first, its method `forward` is replaced, and in evaluation mode it runs as before.
    """
    assert not torch.is_autocast_cache_enabled() or not torch.is_autocast_enabled("cpu")
    module, (x,) = callables, sample_args
    net, parameters = module[0], [p for p in module.parameters() if p.requires_grad]
    for _ in range(num_warmup_iters):
        o = net(x)
        torch.autograd.grad(o, parameters, torch.empty_like(o), allow_unused=allow_unused_input)
    output, gradients = torch.empty_like(o), [torch.empty_like(p) for p in parameters]
    autocast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    T = net.T

    class Replay(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y, *_):
            assert y.shape == x.shape
            assert net.T == T  # a graph keeps that of its capture
            x.copy_(y)
            with torch.enable_grad(), torch.autocast("cpu", autocast[1], enabled=autocast[0], cache_enabled=False):
                ctx.o = net(x)
            return output.copy_(ctx.o.detach()).detach()

        @staticmethod
        def backward(ctx, grad_o):
            found = torch.autograd.grad(ctx.o, parameters, grad_o, allow_unused=allow_unused_input)
            kept = [g if g is None else into.copy_(g) for into, g in zip(gradients, found, strict=True)]
            return None, *(g if g is None else g.detach() for g in kept)

    held = weakref.ref(module)  # as in torch 2.15

    def replay(y):
        assert held() is not None
        return Replay.apply(y, *parameters) if held().training else net(y)

    module.forward = replay
    return module


class Captures:
    """Takes the place of ``make_graphed_callables``, and notes what shapes and numbers of parameters it is called with."""

    def __init__(self):
        self.shapes: list[tuple[int, ...]] = []
        self.parameters: list[int] = []

    def __call__(self, module: nn.Module, sample_args, **options):
        self.shapes.append(tuple(sample_args[0].shape))
        self.parameters.append(count_parameters(module))
        return make_graphed_callables(module, sample_args, **options)

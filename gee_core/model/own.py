"""The user's own networks: a class or function that returns a module of SpikingJelly neurons, known under a name.

The class is called with ``num_classes``, ``in_channels`` and ``image_size``, by name, and with those settings of the section
`network` that its signature names: ``width``, ``T``, ``tau``, ``decay_input``, ``v_threshold``, ``v_reset``,
``detach_reset``, ``surrogate``, ``surrogate_alpha``, ``pool``. All others are the module's own business.

The module takes images (B, C, H, W), or frames of events (T, B, C, H, W), and returns the output of every step, o (T, B, K) in
float32. A trial checks it.

Shapes: T steps, B batch, C channels, H W space, K classes.
"""

import inspect
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from gee_core.config.known_networks import OWN, Own, is_own, registered
from gee_core.errors import raises
from gee_core.genome.copying import copied
from gee_core.genome.encoding import encoded_copy
from gee_core.model.base import SpikingNetwork, is_neuron, strided_and_narrow, takes_all_steps, to_channels_last
from gee_core.seeding import private_torch_rng
from gee_core.snn.kernels import is_exporting
from gee_core.snn.lif import LIF

LIF_DEFAULTS = {key: parameter.default for key, parameter in inspect.signature(LIF).parameters.items()}


def register_network(
    name: str, build: Callable[..., nn.Module], *, num_classes: int = 10, in_channels: int = 3, image_size: int = 32
) -> None:
    """Make a class or function known as the network ``name``, to ``build_network``, ``load`` and the pipeline.

    A second call with the same name replaces the first. Nothing is built yet.

    Args:
        name: ``package.module:NAME``, as in `network.name`, for instance ``networks.my_vgg:MyVGG``.
        build: returns the module; ``gee_core.model.own`` says how it is called and what the module takes and returns.
        num_classes: K, where only the number of channels of the network is asked for.
        in_channels: C, likewise.
        image_size: H and W in pixels, likewise.

    Raises:
        ValueError: the name has another form, or ``build`` cannot be called.

    Examples:
        >>> def small(num_classes, in_channels, **how):
        ...     layers = torch.nn.Conv2d(in_channels, 8, 3), gee_core.LIF(), torch.nn.Conv2d(8, num_classes, 3)
        ...     return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> gee_core.register_network("networks.small:small", small)
    """
    if not is_own(name):
        raise ValueError(f"{name!r}: an own network is called package.module:NAME, for instance networks.my_vgg:MyVGG")
    if not callable(build):
        raise ValueError(f"{name}: a {type(build).__name__} is no class or function that builds a network")

    def chain(width: float | None) -> tuple[list[int], int]:
        for built_with, found in registered(name).trials.items():  # images of another size have the same chain
            if width in (None, built_with[0]):
                return list(found.channels), found.kernel_positions
        sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
        own_network(name, sizes, 1.0 if width is None else width, "max", LIF_DEFAULTS)
        return chain(width)

    OWN[name] = Own(build, chain)


@dataclass(frozen=True)
class Trial:
    """The result of a trial of a module on two images."""

    T: int
    """Steps of its answer."""
    channels_last: bool
    """Whether it runs in channels-last layout."""
    chain: tuple[str, ...] = ()
    """Names of the convolutions that can be encoded, in order of execution."""
    channels: tuple[int, ...] = ()
    """[C_0 … C_L]."""
    kernel_positions: int = 0
    """k²."""


class OwnNetwork(SpikingNetwork):
    """The user's module ``net`` as a ``SpikingNetwork``: its neurons are reset before and after every call.

    In evaluation mode, its draws from torch's global generators are the same in every call.
    """

    def __init__(self, net: nn.Module, found: Trial):
        super().__init__(found.T)
        self.net = net
        self.channels_last = found.channels_last
        self._chain = found.chain
        if found.channels_last:
            to_channels_last(net)

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self.net)
        if not self.channels_last:  # not by contiguous(), which leaves images of one channel as they are
            x = x.clone(memory_format=torch.contiguous_format)
        with nullcontext() if self.training or is_exporting() else private_torch_rng(0, x.device):
            o_TBK = self.net(x)
        functional.reset_net(self.net)  # neurons that hold the graph of their last run cannot be copied
        return o_TBK

    def conv_chain(self) -> list[nn.Conv2d]:
        return [module for name in self._chain if isinstance(module := self.get_submodule(name), nn.Conv2d)]


def own_network(
    name: str, sizes: dict[str, int], width: float, pool: str, lif: dict, seed: int = 0, T: int | None = None
) -> OwnNetwork:
    """The own network ``name`` with the initial weights of its own code, on the CPU; it answers with ``T`` steps, if any."""
    # on the CPU also where networks without numbers are built: neurons may not run on the meta device
    with torch.device("cpu"), private_torch_rng(seed):
        net = own_module(name, sizes, width, pool, lif)
        trials, built_with = registered(name).trials, (width, *sizes.values(), pool, *lif.values())
        if built_with not in trials:  # it takes longer than building
            try:
                trials[built_with] = _trial(net, sizes, lif["T"])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    found = trials[built_with]
    if T is not None and found.T != T:
        raise ValueError(f"`T` = {T}, but {name} answers with {found.T} steps: set `T` = {found.T}")
    return OwnNetwork(copied(net), found)  # its code may return the same module every time


def own_module(name: str, sizes: dict[str, int], width: float, pool: str, lif: dict) -> nn.Module:
    """The module that the class of the own network ``name`` returns; arguments as for ``own_network``."""
    build = registered(name).build
    settings = {"width": width, "pool": pool, "surrogate": lif["surrogate_name"], **lif}
    try:
        taken = inspect.signature(build).parameters
        net = build(**sizes, **{key: value for key, value in settings.items() if key in taken and key not in sizes})
    except (Exception, SystemExit) as error:
        called = ", ".join(f"{key}={value}" for key, value in sizes.items())
        raise ValueError(f"{name}({called}, …) {raises(error)}") from error
    if not isinstance(net, nn.Module):
        raise ValueError(f"{name} returns a {type(net).__name__}, not a torch.nn.Module")
    names: dict[int, str] = {}
    for tensor, value in net.state_dict(keep_vars=True).items():
        problem = ""
        if nn.parameter.is_lazy(value):
            problem = "has no size before the first call: use ordinary layers in place of lazy ones"
        elif isinstance(value, nn.Parameter) and value.dtype != torch.float32:
            problem = f"is {value.dtype}: only parameters in float32 are trained"
        elif names.setdefault(id(value), tensor) != tensor:
            problem = f"and {names[id(value)]} are one tensor, which a checkpoint cannot hold twice"
        if problem:
            raise ValueError(f"{name}: its {tensor} {problem}")
    return net


@torch.no_grad()
def _trial(net: nn.Module, sizes: dict[str, int], T: int) -> Trial:
    """The steps, the memory layout and the chain of ``net``, by trials of copies; ValueError where it does not fit."""
    B = 2 if T != 2 else 3  # so that no answer has its images in the place of its steps
    shape = B, sizes["in_channels"], sizes["image_size"], sizes["image_size"]
    example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    probe = copied(net).eval()
    neurons = [module for module in probe.modules() if is_neuron(module)]
    if not neurons:
        raise ValueError("it has no neurons: build it with those of spikingjelly.activation_based.neuron, or gee_core.LIF")
    for module in neurons:
        module.register_forward_hook(_with_more_spikes)
    all_steps = any(map(takes_all_steps, probe.modules()))
    inputs = [example, example.expand(T, *shape)] if shape[1] == 2 else [example]  # of two polarities, it may take frames alone
    begin = ": let its forward begin with `x = x.repeat(T, 1, 1, 1, 1)`, if it takes (T, B, C, H, W)" if all_steps else ""
    for example in inputs:
        try:
            o, again = (_answer(probe, example) for _ in range(2))
            break
        except (Exception, SystemExit) as error:
            if example is inputs[-1]:
                raise ValueError(f"for images (B, C, H, W) = {shape} it {raises(error)}{begin}") from error
    if misfit := _misfit(o, (T, B, sizes["num_classes"])):
        raise ValueError(f"for images (B, C, H, W) = {shape} it returns {misfit}")
    if again.shape != o.shape or not torch.allclose(again, o):
        raise ValueError(
            "the second call with the same images gives another output: it keeps state between calls "
            "(register_memory of a MemoryModule keeps what is reset), or draws from another generator than torch's"
        )
    channels_last = not any(map(strided_and_narrow, net.modules()))
    if channels_last:
        try:
            OwnNetwork(copied(net), Trial(len(o), True)).eval()(example.contiguous(memory_format=torch.channels_last))
        except (Exception, SystemExit):
            channels_last = False
    wrapped = OwnNetwork(copied(net), Trial(len(o), channels_last))
    _, _, chain = encoded_copy(wrapped, 1, example, None)
    names = {module: name for name, module in wrapped.named_modules()}
    found = tuple(names[conv] for conv in chain), tuple(conv.out_channels for conv in chain), math.prod(chain[1].kernel_size)
    return Trial(len(o), channels_last, *found)


def _misfit(o: object, wanted: tuple[int, int, int]) -> str:
    """What ``o`` is, and the line to change, where it is no finite (steps, images, classes) in float32; else empty."""
    _, B, K = wanted
    if not isinstance(o, Tensor):
        return f"a {type(o).__name__}, not a tensor: let its forward return the output of every step (T, B, K) alone"
    if o.ndim != 3 or o.shape[1:] != (B, K):
        return f"{tuple(o.shape)}, not (T, B, K) = {wanted}: let it return the output of every step, (T, B, K)"
    if o.dtype != torch.float32:
        return f"{o.dtype}: let its forward end with `return o{'.real' if o.is_complex() else ''}.float()`"
    return "" if o.isfinite().all() else "values that are not finite (NaN or infinite)"


def _answer(probe: nn.Module, x: Tensor) -> Tensor:
    """The answer of ``probe``, its neurons reset and its draws from torch's generators equal in every call."""
    functional.reset_net(probe)
    with private_torch_rng(0):
        o = probe(x.clone())  # which may be changed in place
    return o.clone() if isinstance(o, Tensor) else o  # it may be the state itself, which the next call changes


def _with_more_spikes(neurons: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    """Half of the outputs set to 1: before it is trained, a deep network may be silent, and its state would not show."""
    return torch.where(torch.rand(output.shape) < 0.5, 1.0, output) if isinstance(output, Tensor) else output

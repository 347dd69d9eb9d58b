"""The user's own networks: a class or function that returns a module of SpikingJelly neurons, known under a name.

The class is called with ``num_classes``, ``in_channels`` and ``image_size``, by name, and with those settings of the section
`network` that its signature names: ``width``, ``T``, ``tau``, ``decay_input``, ``v_threshold``, ``v_reset``,
``detach_reset``, ``surrogate``, ``surrogate_alpha``, ``pool``. All others are the module's own business.

Shapes: T steps, B batch, C channels, H W space, K classes. A trial on two images finds out which form the module has:

    images  takes (B, C, H, W), the same image at every step, and returns (T, B, K)
    steps   takes (T, B, C, H, W) and returns (T, B, K), as SpikingJelly's networks in step_mode 'm'
    single  takes (B, C, H, W) and returns (B, K), all its modules in step_mode 's': it runs T times
"""

import inspect
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from gee_core.config.known_networks import OWN, Own, registered
from gee_core.config.known_networks import is_own as is_own
from gee_core.errors import raises
from gee_core.genome.copying import copied
from gee_core.genome.encoding import encoded_copy
from gee_core.model.base import SpikingNetwork, strided_and_narrow, to_channels_last
from gee_core.seeding import private_torch_rng
from gee_core.snn.kernels import is_exporting
from gee_core.snn.lif import LIF
from gee_core.snn.neurons import is_neuron, takes_all_steps

Form = Literal["images", "steps", "single"]

LIF_DEFAULTS = {key: parameter.default for key, parameter in inspect.signature(LIF).parameters.items()}


def register_network(
    name: str, build: Callable[..., nn.Module], *, num_classes: int = 10, in_channels: int = 3, image_size: int = 32
) -> None:
    """Make a class or function known as the network ``name``, to ``build_network``, ``load`` and the pipeline.

    A second call with the same name replaces the first. Nothing is built yet.

    Args:
        name: ``package.module:NAME``, as in `network.name`, for instance ``networks.my_vgg:MyVGG``.
        build: returns the module; what it is called with and the forms of the module are in ``gee_core.model.own``.
        num_classes: K, where only the number of channels of the network is asked for.
        in_channels: C, likewise.
        image_size: H and W in pixels, likewise.

    Raises:
        ValueError: the name has another form, or ``build`` cannot be called.
    """
    if not is_own(name):
        raise ValueError(f"{name!r}: an own network is called package.module:NAME, for instance networks.my_vgg:MyVGG")
    if not callable(build):
        raise ValueError(f"{name}: a {type(build).__name__} is no class or function that builds a network")

    def chain(width: float | None) -> tuple[list[int], int]:
        for built_with, found in registered(name).trials.items():  # images of another size have the same chain
            if width in (None, built_with[0]):
                return list(found.channels), found.kernel_positions
        own_network(name, num_classes, in_channels, image_size, 1.0 if width is None else width, "max", LIF_DEFAULTS)
        return chain(width)

    OWN[name] = Own(build, chain)


@dataclass(frozen=True)
class Trial:
    """What a trial of a module on two images found out."""

    form: Form
    T: int
    """Steps that it answers with."""
    chain: tuple[str, ...] = ()
    """Names of the convolutions that can be encoded, in order of execution."""
    channels: tuple[int, ...] = ()
    """[C_0 … C_L]."""
    kernel_positions: int = 0
    """k²."""
    channels_last: bool = True
    """Whether it runs in channels-last layout: not where ``view`` raises in it, nor where ``strided_and_narrow`` says so."""


class OwnNetwork(SpikingNetwork):
    """The user's module ``net`` as a ``SpikingNetwork``: its neurons are reset before and after every call.

    In evaluation mode, what it draws from torch's global generators is the same in every call.
    """

    def __init__(self, net: nn.Module, found: Trial):
        super().__init__(found.T)
        self.net = net
        self.form = found.form
        self.channels_last = found.channels_last
        self._chain = found.chain
        if found.channels_last:
            to_channels_last(net)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The last layer's output at every step, o (T, B, K). Its mean over T are the logits."""
        functional.reset_net(self.net)
        if not self.channels_last:  # not by contiguous(), which leaves images of one channel as they are
            x_BCHW = x_BCHW.clone(memory_format=torch.contiguous_format)
        with nullcontext() if self.training or is_exporting() else private_torch_rng(0, x_BCHW.device):
            o_TBK = self._run(x_BCHW)
        functional.reset_net(self.net)  # neurons that hold the graph of their last run cannot be copied
        return o_TBK

    def _run(self, x_BCHW: Tensor) -> Tensor:
        if self.form == "images":
            return self.net(x_BCHW)
        if self.form == "steps":
            return self.net(x_BCHW.repeat(self.T, 1, 1, 1, 1))
        return torch.stack([self.net(x_BCHW) for _ in range(self.T)])

    def conv_chain(self) -> list[nn.Conv2d]:
        """The convolutions that ``encoding.conv_chain`` finds, in order of execution."""
        return [module for name in self._chain if isinstance(module := self.get_submodule(name), nn.Conv2d)]


def own_network(
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float,
    pool: str,
    lif: dict,
    seed: int = 0,
    T: int | None = None,
) -> OwnNetwork:
    """The own network ``name`` with the initial weights of its own code, on the CPU.

    Args:
        name: as it was registered.
        num_classes: K.
        in_channels: C.
        image_size: H and W in pixels.
        width: for a class that takes it, as the next two.
        pool: `max` or `avg`.
        lif: arguments of ``LIF``.
        seed: of the weights, as far as they come from torch's global generator, which is left as it was.
        T: the steps that the network has to answer with; None for any number.

    Raises:
        ValueError: it is not registered; its class raises; or what that returns is no network that can be encoded.
    """
    # on the CPU also where networks without numbers are built: neurons may not run on the meta device
    with torch.device("cpu"), private_torch_rng(seed):
        net = own_module(name, num_classes, in_channels, image_size, width, pool, lif)
        trials, built_with = registered(name).trials, (width, num_classes, in_channels, image_size, pool, *lif.values())
        if built_with not in trials:  # it takes longer than building
            example = example_images(lif["T"], in_channels, image_size)
            trials[built_with] = _trial(name, net, example, num_classes, lif["T"])
    found = trials[built_with]
    if T is not None and found.T != T:
        raise ValueError(f"network.T = {T}, but {name} answers with {found.T} steps: set network.T = {found.T}")
    return OwnNetwork(copied(net), found)  # its code may return the same module every time


def example_images(T: int, in_channels: int, image_size: int) -> Tensor:
    """Random images for a trial: two, or three where there are two steps, so that no answer has them in each other's place."""
    shape = (2 if T != 2 else 3, in_channels, image_size, image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def own_module(name: str, num_classes: int, in_channels: int, image_size: int, width: float, pool: str, lif: dict) -> nn.Module:
    """What the class of the own network ``name`` returns; arguments as for ``own_network``.

    Raises:
        ValueError: it is not registered, raises, or returns no module, or one whose tensors cannot be trained or saved.
    """
    build = registered(name).build
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
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
        if nn.parameter.is_lazy(value):
            raise ValueError(
                f"{name}: its {tensor} has no size before the first call: use ordinary layers in place of lazy ones"
            )
        if isinstance(value, nn.Parameter) and value.dtype != torch.float32:
            raise ValueError(f"{name}: its parameter {tensor} is {value.dtype}: only float32 is trained")
        if names.setdefault(id(value), tensor) != tensor:
            raise ValueError(
                f"{name}: its {tensor} and {names[id(value)]} are one tensor, which a checkpoint cannot hold twice"
            )
    return net


def _trial(name: str, net: nn.Module, example: Tensor, num_classes: int, T: int) -> Trial:
    """What ``net`` is, found out on images ``example``; it is not changed."""
    found = _form(name, net, example, num_classes, T)
    found = replace(found, channels_last=not any(map(strided_and_narrow, net.modules())))
    if found.channels_last:
        try:
            OwnNetwork(copied(net), found).eval()(example.contiguous(memory_format=torch.channels_last))
        except (Exception, SystemExit):
            found = replace(found, channels_last=False)
    wrapped = OwnNetwork(copied(net), found)
    try:
        _, _, chain = encoded_copy(wrapped, 1, example, None)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    names = {module: name for name, module in wrapped.named_modules()}
    channels, kernel_positions = tuple(conv.out_channels for conv in chain), math.prod(chain[1].kernel_size)
    return replace(found, chain=tuple(names[conv] for conv in chain), channels=channels, kernel_positions=kernel_positions)


@torch.no_grad()
def _form(name: str, net: nn.Module, example: Tensor, num_classes: int, T: int) -> Trial:
    """The form of ``net`` and the number of its steps, without the chain, by a trial of a copy."""
    try:
        probe = copied(net).eval()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if not any(map(is_neuron, probe.modules())):
        raise ValueError(f"{name} has no neurons: build it with those of spikingjelly.activation_based.neuron, or gee_core.LIF")
    for module in filter(is_neuron, probe.modules()):
        module.register_forward_hook(_with_more_spikes)
    one_step = not any(map(takes_all_steps, probe.modules()))
    answer = (len(example), num_classes)
    tried: list[str] = []
    inputs: list[tuple[Form, Tensor]] = [("images", example), ("steps", example.repeat(T, 1, 1, 1, 1))]
    for form, x in inputs:
        try:
            o, again = (_answer(probe, x) for _ in range(2))
        except (Exception, SystemExit) as error:
            tried.append(f"for {form} {tuple(x.shape)} it {raises(error)}")
            continue
        if isinstance(o, Tensor) and o.ndim == 3 and o.shape[1:] == answer:
            found = Trial(form, len(o))
        elif isinstance(o, Tensor) and form == "images" and o.shape == answer and one_step:
            found = Trial("single", T)
        else:
            got = tuple(o.shape) if isinstance(o, Tensor) else type(o).__name__
            tried.append(f"for {form} {tuple(x.shape)} it returns {got}")
            continue
        if again.shape != o.shape or not torch.allclose(again, o, equal_nan=True):
            raise ValueError(
                f"{name}: the second call with the same images gives another output: it keeps state between calls "
                "(register_memory of a MemoryModule keeps what is reset), or draws from another generator than torch's"
            )
        return found
    hint = "; return the output of every step, not their mean" if f"returns {answer}" in " ".join(tried) else ""
    raise ValueError(f"{name}: no output of the shape (steps, images, classes) = {(T, *answer)}: {'; '.join(tried)}{hint}")


def _answer(probe: nn.Module, x: Tensor) -> Tensor:
    """What ``probe`` returns, its neurons reset and its draws from torch's generators equal in every call."""
    functional.reset_net(probe)
    with private_torch_rng(0):
        o = probe(x.clone())  # which may be changed in place
    return o.clone() if isinstance(o, Tensor) else o  # it may be the state itself, which the next call changes


def _with_more_spikes(neurons: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    """Half of the outputs set to 1: before it is trained, a deep network may be silent, and what it keeps would not show."""
    return torch.where(torch.rand(output.shape) < 0.5, 1.0, output) if isinstance(output, Tensor) else output

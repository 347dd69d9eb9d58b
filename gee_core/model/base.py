"""What the pipeline asks of a network, one of the table or the user's own.

Shapes: T steps, B batch, C channels, H W space, K classes.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import ValidationError
from spikingjelly.activation_based import neuron
from spikingjelly.activation_based.base import MultiStepModule
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gee_core.config import NetworkStructure, Positive, StrictModel
from gee_core.errors import InputError, whole_number
from gee_core.snn.lif import ILIF, LIF

Net = TypeVar("Net", bound=nn.Module)


class Architecture(StrictModel):
    """What determines a network of ``build_network`` but for its weights: the JSON file next to a checkpoint."""

    network: NetworkStructure
    """Its values in the section `network`."""
    num_classes: Positive
    """K."""
    in_channels: Positive
    """Channels of the images."""
    image_size: Positive
    """Side of the images in pixels."""

    @classmethod
    def of(cls, sizes: Mapping[str, object], structure: Mapping[str, object], lif: Mapping[str, object]) -> "Architecture":
        """That of these arguments of ``build_network``: ``lif`` are those of its neurons, others have the neurons' defaults.

        ValueError names the first argument that is out of range.
        """
        neurons = {**DEFAULTS["ilif" if lif.get("neuron") == "ilif" else "lif"], **lif}
        network = {**structure, **neurons, "surrogate": neurons["surrogate_name"]}
        del network["surrogate_name"]
        for values in (network, given := dict(sizes)):
            for name, value in values.items():
                if isinstance(value, np.generic):
                    values[name] = value.item()
        try:
            return cls.model_validate({**given, "network": network})
        except ValidationError as error:
            problem = error.errors()[0]
            message = problem["msg"].removeprefix("Value error, ").replace("null", "None")
            if problem["loc"] == ("network",):  # of several arguments
                raise ValueError(message) from None
            raise ValueError(f"{problem['loc'][-1]} = {problem['input']!r:.80}: {message}") from None

    def plain(self) -> "Architecture":
        """The same without genes."""
        return self.model_copy(update={"network": self.network.model_copy(update={"n_genes": None})})


OF_LIF, OF_ILIF = (
    {name: parameter.default for name, parameter in inspect.signature(neurons).parameters.items()} for neurons in (LIF, ILIF)
)
DEFAULTS = {"lif": OF_LIF | {"neuron": "lif", "levels": None}, "ilif": OF_LIF | OF_ILIF | {"neuron": "ilif"}}
"""The arguments of ``LIF`` and ``ILIF``, by the neuron."""


class SpikingNetwork(nn.Module):
    """A network for images (B, C, H, W), or frames of events (T, B, C, H, W), → o (T, B, K), without a state between two calls.

    Attributes:
        T: time steps.
        changes_T: whether T can be set to another number, as ``with_steps`` does.
        channels_last: whether its convolution weights have channels-last layout, as ``to_channels_last`` gives it.
        built_with: the architecture that ``build_network`` gave it. None for a network made otherwise.
        as_built: the ``settings_of`` the network when ``build_network`` returned it.
    """

    changes_T = False
    channels_last = True

    def __init__(self, T: int, built_with: Architecture | None = None):
        super().__init__()
        self.T = T
        self.built_with = built_with
        self.as_built: dict[str, tuple] = {}

    def forward(self, x: Tensor) -> Tensor:
        """The last layer's output at every step, o (T, B, K). Its mean over T are the logits."""
        raise NotImplementedError

    def conv_chain(self) -> list[nn.Conv2d]:
        """The stem's convolution and every one that can be encoded, in order of execution."""
        raise NotImplementedError


def is_neuron(module: nn.Module) -> bool:
    """Whether ``module`` is a neuron of SpikingJelly that fires, of whichever base class."""
    classes = [cls for cls in type(module).__mro__ if cls.__module__.startswith(neuron.__name__)]
    return bool(classes) and not any("NonSpiking" in cls.__name__ for cls in classes)


def takes_all_steps(module: nn.Module) -> bool:
    """Whether ``module`` is one of SpikingJelly's that takes (T, B, …) in one call, by its step mode or always."""
    return getattr(module, "step_mode", "m" if isinstance(module, MultiStepModule) else "s") == "m"


def settings_of(net: nn.Module) -> dict[str, tuple]:
    """By name the kind of every module but genes, and the settings that it shows and that change its output."""
    settings: dict[str, tuple] = {}
    for name, module in net.named_modules():
        if name != "genome" and "parametrizations" not in name.split("."):
            kind = parametrize.type_before_parametrizations(module).__name__
            settings[name] = kind, re.sub(r"\b(backend|momentum)=[\w.]+", "", module.extra_repr())
    return settings


def check_unwrapped(net: nn.Module) -> None:
    """Raise ``InputError`` if ``net`` holds a ``SpikingNetwork`` as `torch.compile`, AveragedModel and others hold theirs."""
    for attribute in ("_orig_mod", "module"):
        if isinstance(getattr(net, attribute, None), SpikingNetwork):
            raise InputError(f"the network is wrapped in {type(net).__name__}", f"give its .{attribute}")


def image_shape(net: nn.Module, in_channels: int | Tensor | None, image_size: int | None) -> tuple[int, int, int]:
    """(C, H, W) of images for ``net``: as given, or of an example as ``in_channels``, else those that it was built for."""
    if isinstance(in_channels, Tensor):
        if in_channels.ndim not in (4, 5) or image_size is not None:
            problem = f"the example has the shape {tuple(in_channels.shape)}, and image_size is {image_size}"
            raise InputError(problem, "give images (B, C, H, W) or frames (T, B, C, H, W), and no image_size")
        C, H, W = in_channels.shape[-3:]
        return C, H, W
    built_with = net.built_with if isinstance(net, SpikingNetwork) else None
    if built_with is not None:
        in_channels = built_with.in_channels if in_channels is None else in_channels
        image_size = built_with.image_size if image_size is None else image_size
    if in_channels is None or image_size is None:
        problem = f"in_channels, image_size: {type(net).__name__} does not say which it is built for"
        raise InputError(problem, "give them as arguments, or an example, images (B, C, H, W)")
    side = whole_number("image_size", image_size)
    return whole_number("in_channels", in_channels), side, side


@contextmanager
def with_steps(net: nn.Module, T: int | None) -> Iterator[None]:
    """Context in which ``net`` runs ``T`` steps. None leaves it as it is. The code of own networks sets their steps."""
    if T is None:
        yield
        return
    if not isinstance(net, SpikingNetwork) or not net.changes_T:
        raise ValueError(f"{type(net).__name__} runs the steps that its code says, not {T}: leave out T_schedule")
    timed: list[Any] = [module for module in net.modules() if hasattr(module, "T")]
    before = [module.T for module in timed]
    for module in timed:
        module.T = T
    try:
        yield
    finally:
        for module, steps in zip(timed, before, strict=True):
            module.T = steps


def to_channels_last(net: Net) -> Net:
    """``net``, its convolution weights put in channels-last layout in place: the fast one on CPU and GPU."""
    for parameter in net.parameters():
        if parameter.ndim == 4:
            W = parameter.data
            if W.is_meta:  # torch would load its compiler for a copy
                parameter.data = torch.empty_like(W, memory_format=torch.channels_last)
            else:
                parameter.data = W.to(memory_format=torch.channels_last)
    return net

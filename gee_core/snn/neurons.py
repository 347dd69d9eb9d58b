"""Which modules of a network are neurons."""

from spikingjelly.activation_based import neuron
from spikingjelly.activation_based.base import MultiStepModule
from torch import nn


def is_neuron(module: nn.Module) -> bool:
    """Whether ``module`` is a neuron of SpikingJelly that fires, of whichever base class."""
    classes = [cls for cls in type(module).__mro__ if cls.__module__.startswith(neuron.__name__)]
    return bool(classes) and not any("NonSpiking" in cls.__name__ for cls in classes)


def takes_all_steps(module: nn.Module) -> bool:
    """Whether ``module`` is one of SpikingJelly's that takes (T, B, …) in one call, by its step mode or always."""
    return getattr(module, "step_mode", "m" if isinstance(module, MultiStepModule) else "s") == "m"

"""Which modules of a network are neurons."""

from spikingjelly.activation_based import neuron
from torch import nn


def is_neuron(module: nn.Module) -> bool:
    """Whether ``module`` is a neuron of SpikingJelly that fires, of whichever base class."""
    classes = [cls for cls in type(module).__mro__ if cls.__module__.startswith(neuron.__name__)]
    return bool(classes) and not any("NonSpiking" in cls.__name__ for cls in classes)

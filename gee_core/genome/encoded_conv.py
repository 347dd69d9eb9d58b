"""One encoded convolution: where its X_l is, and why its weight takes no value."""

from typing import Any, cast

from torch import nn
from torch.nn.utils import parametrize

from gee_core.errors import InputError

OF_WEIGHT = ("weight", "weight_orig", "weight_g", "weight_v")
"""What fusion registers in place of a weight, `prune`, and the older `weight_norm` and `spectral_norm`."""

COMPUTED = "the weight of an encoded convolution is computed from its genes: change those, or decode the network first"


def encoding(conv: nn.Conv2d) -> nn.Parameter:
    """X_l, which takes the place of the weight of an encoded convolution.

    Raises:
        InputError: the weight has been made an ordinary one.
    """
    if not parametrize.is_parametrized(conv, "weight"):
        problem = "a convolution of the chain has no genes any more, which the next weight needs"
        raise InputError(problem, "use gee_core.decode, on the network as it was, in place of torch's remove_parametrizations")
    return cast(Any, conv).parametrizations.weight.original


def refuse_parameters(conv: nn.Conv2d) -> None:
    """Let ``conv``, just encoded, refuse parameters in place of its weight, which fusion and pruning register too."""
    cast(Any, type(conv)).register_parameter = _register_parameter  # torch made this class for ``conv`` and its copies


def _register_parameter(conv: nn.Conv2d, name: str, param: nn.Parameter | None) -> None:
    if name in OF_WEIGHT and parametrize.is_parametrized(conv, "weight"):
        raise TypeError(COMPUTED)
    nn.Conv2d.register_parameter(conv, name, param)

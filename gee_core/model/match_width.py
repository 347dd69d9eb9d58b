"""The width at which a plain network has as many parameters as an encoded one: the control at equal size."""

import inspect

from gee_core.config import NetworkStructure
from gee_core.config.known_networks import is_own, registered
from gee_core.errors import InputError
from gee_core.model.wired import ImageShape, plain_parameters

STEPS = 10_000
"""Steps of the width, per unit."""

WIDEST = 4 * STEPS
"""The widest network that a configuration allows."""


def narrowed_width(network: NetworkStructure, images: ImageShape, target: int, tolerance: float = 0.02) -> float:
    """The width, of four decimals, at which the plain ``network`` comes closest to ``target`` parameters, as it is built.

    InputError where every width deviates by more than ``tolerance``, a fraction of ``target``.
    """
    name = network.name
    if is_own(name) and "width" not in inspect.signature(registered(name).build).parameters:
        raise InputError(f"{name} takes no width, so it has no narrowed network", "let its class take width")

    def count(step: int) -> int:
        return plain_parameters(network.model_copy(update={"width": step / STEPS}), images)

    low, high = 1, WIDEST  # steps whose counts enclose the target
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= target else (low, middle)
    best = min((low, high), key=lambda step: abs(count(step) - target))
    reached = count(best)
    if abs(reached - target) > tolerance * target:
        raise InputError(
            f"{name}: no plain network within {tolerance:.0%} of {target:,} parameters, the closest has {reached:,}",
            "raise width or n_genes",
        )
    return best / STEPS

"""The width at which a plain network has as many parameters as an encoded one: the control at equal size."""

import inspect
import math

from gee_core.config import NetworkStructure
from gee_core.config.known_networks import is_own, registered
from gee_core.errors import InputError
from gee_core.model.wired import ImageShape, plain_parameters
from gee_core.zoo import NETWORKS, NetworkSpec

MAX_WIDTH = 4.0
"""The widest network that a configuration allows."""

OWN_STEPS = 500
"""Steps of the width, per unit, in which an own network is searched."""


def narrowed_width(network: NetworkStructure, images: ImageShape, target: int, tolerance: float = 0.02) -> float:
    """The width, of few decimals, at which the plain ``network`` comes closest to ``target`` parameters, as it is built.

    InputError where every width deviates by more than ``tolerance``, a fraction of ``target``.
    """
    name = network.name
    if is_own(name) and "width" not in inspect.signature(registered(name).build).parameters:
        raise InputError(f"{name} takes no width, so it has no narrowed network", "let its class take width")
    edges = [k / OWN_STEPS for k in range(int(MAX_WIDTH) * OWN_STEPS + 1)] if is_own(name) else _steps(NETWORKS[name])

    def count(step: int) -> int:
        width = _short_number(*edges[step : step + 2])
        return plain_parameters(network.model_copy(update={"width": width}), images)

    low, high = 0, len(edges) - 2  # steps whose counts enclose the target
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= target else (low, middle)
    best = min((low, high), key=lambda step: abs(count(step) - target))
    reached = count(best)
    if abs(reached - target) > tolerance * target:
        raise InputError(
            f"{name}: no plain network within {tolerance:.0%} of {target:,} parameters, the closest has {reached:,}",
            "raise {argument} or n_genes",
            "width",
        )
    return _short_number(*edges[best : best + 2])


def _steps(spec: NetworkSpec) -> list[float]:
    """The widths at which some layer's channel count changes, from 0 to the widest. Between two the count is constant."""
    channels = {spec.stem, *spec.convolutions()} | ({spec.hidden} if spec.hidden else set())
    changes = {(k + 0.5) / C for C in channels for k in range(1, math.ceil(MAX_WIDTH * C))}
    return [0.0, *sorted(edge for edge in changes if edge < MAX_WIDTH), MAX_WIDTH]


def _short_number(low: float, high: float) -> float:
    """A number with few decimals strictly between two others, close to their middle."""
    middle = (low + high) / 2
    return next(short for digits in range(1, 17) if low < (short := round(middle, digits)) < high)

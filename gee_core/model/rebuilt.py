"""Networks from files: an architecture that a file describes, and the tensors that it holds."""

from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from gee_core.config.known_networks import OWN, is_own
from gee_core.errors import DivergedError, InputError, in_short
from gee_core.model.base import SpikingNetwork, to_channels_last
from gee_core.model.wired import Architecture, empty_network
from gee_core.storage.json_object import as_model


def described_network(path: Path, saved: object) -> SpikingNetwork:
    """The ``empty_network`` that ``saved`` describes, the JSON of an ``Architecture`` in the file ``path``.

    Raises:
        InputError: it describes none, or an own network that is not registered: no code is imported because a file names it.
    """
    try:
        architecture = as_model(saved, Architecture)
        name = architecture.network.name
        if is_own(name) and name not in OWN:
            raise InputError(
                f"{path}: is of your own network {name}, and no code is imported because a file names it",
                f"register it first: gee_core.register_network({name!r}, …)",
            )
        return empty_network(architecture)
    except InputError:
        raise
    except ValueError as error:
        of_form = error.__cause__.errors() if isinstance(error.__cause__, ValidationError) else ()
        newer = any(problem["type"] == "extra_forbidden" for problem in of_form)
        raise InputError(
            f"{path}: does not describe a network of build_network ({in_short(error)})",
            "a newer gee may have written it: install that version" if newer else None,
        ) from None


def with_tensors(path: Path, net: SpikingNetwork, tensors: dict[str, Tensor]) -> SpikingNetwork:
    """``net`` with the ``tensors`` of ``path`` as its state, in place.

    Raises:
        InputError: they do not fit the network.
        DivergedError: one of them is not finite.
    """
    try:
        net.load_state_dict(tensors, assign=True)
        lost = first_not_finite(net.state_dict())
    except RuntimeError as error:
        raise InputError(f"{path}: does not fit the network ({in_short(error)})") from None
    if lost:
        raise DivergedError(f"{path}: {lost} holds values that are not finite")
    return to_channels_last(net) if net.channels_last else net


def finite(path: Path | str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """``tensors``, which are to be written to ``path``.

    Raises:
        DivergedError: one of them is not finite.
    """
    if lost := first_not_finite(tensors):
        raise DivergedError(f"{path}: not written, because {lost} holds values that are not finite")
    return tensors


def first_not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)

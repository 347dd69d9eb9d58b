"""Finds the network that is to be measured: a name in a module that the user gives, or a checkpoint of this project.

Importing a module runs its code. Only the one that stands on the command line is imported, never one that a file names.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from gee_core.data.augment import Normalise
from gee_core.errors import InputError, did_you_mean, place_in, raises
from gee_core.export.model_card import ModelCard
from gee_core.model.wired import architecture_of
from gee_core.seeding import private_torch_rng
from gee_core.storage.json_object import as_model
from pipelines.inputs.trained_network import load_checkpoint

NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
FORMS = "name a network as MODULE:NETWORK, or a network.safetensors of this project"


@dataclass(frozen=True)
class Target:
    """A network, and what it takes."""

    net: nn.Module
    shape: tuple[int, ...]
    """Of one image."""
    steps: int | None
    """How often every image is presented; None for a network that makes its steps itself."""
    num_classes: int | None = None
    """K of a checkpoint."""
    card: ModelCard | None = None
    """What a file of genes says about its images and classes."""

    @property
    def normalise(self) -> Normalise | None:
        """Turns images into the network's input, as far as its file says."""
        return self.card and Normalise(self.card.mean, self.card.std)


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Modules of ``folder`` can be imported, before all others; no bytecode is written beside them."""
    path, writes = sys.path, sys.dont_write_bytecode
    sys.path, sys.dont_write_bytecode = [str(folder), *path], True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path, sys.dont_write_bytecode = path, writes


def open_target(here: Path, target: str, shape: tuple[int, ...] | None, steps: int | None, classes: int) -> Target:
    """The network that ``target`` names.

    A class or function is called with those of ``num_classes``, ``in_channels``, ``image_size`` and ``T`` that its signature
    names, as the pipeline calls `network.name`; ``T`` only if there are ``steps``, which such a network then makes itself.

    Args:
        here: the folder that a checkpoint is relative to, and in which modules are looked for.
        target: MODULE:NETWORK, or the path of a checkpoint.
        shape: of one image; None for that of the checkpoint, or (3, 32, 32).
        steps: T.
        classes: K.

    Raises:
        InputError: there is no such module, name or file; the code raises; the name is no network; or a checkpoint is given
            ``steps``, or a ``shape`` of other channels.
    """
    if target.endswith(".safetensors"):
        net, card = load_checkpoint(here / target, register=True)
        found = architecture_of(net)
        own = (found.in_channels, found.image_size, found.image_size)
        if steps is not None:
            raise InputError(f"--steps {steps}: {target} makes its {found.network.T} steps itself", "leave it out")
        if shape is not None and (len(shape) != 3 or shape[0] != own[0]):
            taken, given = (",".join(map(str, sizes)) for sizes in (own, shape))
            problem = f"{target}: takes images of {own[0]} channel{'s'[: own[0] > 1]}, such as {taken}, and none of {given}"
            raise InputError(problem, "leave out --shape and --prepared, or give another network")
        return Target(net, shape or own, steps, found.num_classes, _card(card))
    if not NAME.fullmatch(target):
        raise InputError(f"{target!r}: neither MODULE:NETWORK nor a .safetensors file", _form(here, target))
    value = _named(here, target)
    shape = shape or (3, 32, 32)
    if isinstance(value, nn.Module):
        return Target(value, shape, steps)
    if not callable(value):
        raise InputError(
            f"{target}: is of type {type(value).__name__}, which is no network", "name a module, or what returns one"
        )
    arguments = _arguments(value, {"num_classes": classes, "in_channels": shape[0], "image_size": shape[-1], "T": steps})
    try:
        with private_torch_rng(0):
            net = value(**arguments)
    except (Exception, SystemExit) as error:
        called = f"{target}({', '.join(f'{key}={value}' for key, value in arguments.items())})"
        remedy = "fix it, or name a function that takes no other arguments and returns the network"
        raise InputError(f"{called} {raises(error)}", remedy) from error
    if not isinstance(net, nn.Module):
        raise InputError(f"{target} returns a {type(net).__name__}, not a torch.nn.Module", "return the network")
    return Target(net, shape, None if "T" in given else steps)


def _form(here: Path, target: str) -> str:
    """The remedy for a ``target`` of no form: with the module in it, where it names one without a network."""
    if (here / target).is_dir():
        return "it is a folder: name the .safetensors file in it"
    module = target.removesuffix(".py").replace("/", ".")
    file = Path(*module.split(".")).with_suffix(".py")
    if NAME.fullmatch(f"{module}:NAME") and (here / file).is_file():
        return f"write {module}:NAME for the class or function NAME in {file}"
    return FORMS


def _card(values: dict | None) -> ModelCard | None:
    try:
        return as_model(values, ModelCard)
    except ValueError:  # the library writes files without a description
        return None


def _named(here: Path, target: str) -> Any:
    """What ``target`` names, in a module that is imported."""
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):  # one that the module itself imports
            raise _raising(here, module_name, error) from error
        files = [path.stem for path in here.glob("*.py")]
        places = f"no module {error.name} in {here} or among the installed packages"
        raise InputError(
            f"{target}: {places}", did_you_mean(error.name or "", files) or "check its name, or change the folder"
        ) from None
    except (Exception, SystemExit) as error:
        raise _raising(here, module_name, error) from error
    if not hasattr(module, attribute):
        own = [name for name, value in vars(module).items() if callable(value) or isinstance(value, nn.Module)]
        own = [name for name in own if not name.startswith("_")]
        remedy = did_you_mean(attribute, own) or "name a module, class or function of it"
        raise InputError(f"{target}: the module {module_name} has no {attribute}", remedy)
    return getattr(module, attribute)


def _raising(here: Path, module: str, error: BaseException) -> InputError:
    place = place_in([here], error)
    where = f"{place[0].relative_to(here.absolute())}, {place[1]}" if place else f"importing {module}"
    return InputError(f"{where} {raises(error)}", "fix it")


def _arguments(build: Any, offered: dict[str, int | None]) -> dict[str, int]:
    try:
        taken = inspect.signature(build).parameters
    except (TypeError, ValueError):  # of built-in functions there is none
        return {}
    return {key: value for key, value in offered.items() if key in taken and value is not None}

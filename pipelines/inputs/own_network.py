"""Imports the user's own network that `network.name` names, from networks/, and makes it known to ``gee_core``.

Code is imported from that folder of the project alone, and for a name alone that params.yaml, an override, a study or a command
line gives, never for one that a checkpoint, a genotype or a result holds. docs/SECURITY.md says so too.
"""

import importlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gee_core.config import Params
from gee_core.config.known_networks import OWN, is_own
from gee_core.data.meta import load_meta
from gee_core.errors import InputError, did_you_mean, place_in, raises
from gee_core.storage.json_object import read_json_object
from pipelines.inputs.network_files import module_file, network_digest
from pipelines.project.params import load_params
from pipelines.project.paths import NETWORKS, PARAMS, PREPARED

if TYPE_CHECKING:
    from gee_core.gene_file import GeneHeader
    from gee_core.model.network import SpikingNetwork
    from gee_core.model.wired import ImageShape

TUTORIAL = "docs/tutorials/your-network.md says what a network must offer"

SIZES = ("num_classes", "in_channels", "image_size")

_imported: dict[str, tuple[Path, str, dict[str, int]]] = {}
"""By name, the folder, the digest and the sizes with which a network was registered in this process."""


def register_own_network(name: str, shape: "ImageShape | None" = None, digest: str | None = None) -> None:
    """Import the own network ``name`` and make it known to ``gee_core``; nothing to do for a network of the table.

    A file that has changed since it was imported is imported again.

    Args:
        name: `network.name`.
        shape: images for which it is built where only its layers are asked for.
        digest: the checksum that ``network_digest`` gave when the run began.

    Raises:
        InputError: the module is missing, not in networks/, raises, lacks the name, or is not that of ``digest`` any more.
    """
    if not is_own(name):
        return
    found = network_digest(name)
    if digest not in (None, "", found):
        problem = f"network.name = {name}: the source in {NETWORKS}/ is not that with which the run began"
        raise InputError(problem, "start the run again; workers on other machines need the same files")
    sizes = {} if shape is None else {size: getattr(shape, size) for size in SIZES}
    folder, digest_then, sizes_then = _imported.get(name, (None, "", {}))
    if name in OWN and (folder, digest_then) == (NETWORKS.absolute(), found) and sizes in ({}, sizes_then):
        return
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # SpikingJelly asks for triton, and does without
    build = _imported_name(name)
    from gee_core.model.own import register_network

    try:
        register_network(name, build, **sizes)
    except ValueError as error:
        raise InputError(f"network.name = {error}", TUTORIAL) from None
    _imported[name] = NETWORKS.absolute(), found, sizes


def _imported_name(name: str) -> Callable[..., Any]:
    """The object that ``name`` names, from a fresh import of its module out of networks/ of the project."""
    module_name, _, attribute = name.partition(":")
    for known in [known for known in sys.modules if known.split(".")[0] == NETWORKS.name]:
        del sys.modules[known]
    package = ModuleType(NETWORKS.name)
    package.__path__ = [str(NETWORKS.absolute())]
    sys.modules[NETWORKS.name] = package
    importlib.invalidate_caches()
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # its check of a file's time misses edits within a second
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        place = place_in([NETWORKS], error)
        where = f"{place[0].relative_to(NETWORKS.absolute().parent)}, {place[1]}" if place else module_file(module_name)
        inside = f"{NETWORKS}.{error.name}" if isinstance(error, ModuleNotFoundError) else ""
        remedy = f"write `from {inside} import …`" if inside and module_file(inside) else "fix it"
        raise InputError(f"network.name = {name}: {where} {raises(error)}", remedy) from error
    finally:
        sys.dont_write_bytecode = writes
    if not hasattr(module, attribute):
        own = [
            key for key, value in vars(module).items() if callable(value) and getattr(value, "__module__", "") == module_name
        ]
        remedy = did_you_mean(attribute, own) or f"it has {', '.join(own) or 'no class and no function'}"
        raise InputError(f"network.name = {name}: {module_file(module_name)} has no {attribute}", remedy)
    return getattr(module, attribute)


def build_own_network(params: Params, shape: "ImageShape", tried_with: str = "") -> "SpikingNetwork":
    """Register the own network of ``params`` and build it for images of ``shape``: ``gee_core`` runs two images through it."""
    network = params.network
    register_own_network(network.name, shape)
    from gee_core.model.network import build_network

    sizes = (shape.num_classes, shape.in_channels, shape.image_size)
    try:
        net = build_network(network.name, *sizes, None, network.width, pool=network.pool, **network.lif())
        params.check_top()
    except InputError:
        raise
    except ValueError as error:
        text = str(error)
        if text.startswith(("`", "evolve.")):  # it names a setting, and what to set it to
            raise InputError(text) from None
        text = text.removeprefix(name := network.name).removeprefix(":").strip()
        raise InputError(f"network.name = {name}: {text}{tried_with}", TUTORIAL) from None
    return net


def register_configured(params: Params) -> None:
    """Register the network of ``params`` and build it for the prepared images; nothing to do for a network of the table."""
    if is_own(params.network.name):
        try:
            meta = load_meta(PREPARED)
        except InputError:  # the stage says so
            return register_own_network(params.network.name)
        build_own_network(params, meta)


def register_if_configured(checkpoint: Path, header: "GeneHeader | None") -> None:
    """Register the own network of a checkpoint, or of a file of genes with that ``header``, if params.yaml names it.

    The name in the file alone imports no code.

    Raises:
        InputError: it is an own network, and params.yaml names another.
    """
    try:
        network = (header.architecture if header else read_json_object(checkpoint.with_suffix(".json")))["network"]
        name = network["name"] if isinstance(network, dict) else ""
    except (OSError, ValueError, KeyError):  # whoever loads it says so
        return
    if isinstance(name, str) and is_own(name):
        if name != load_params().network.name:
            problem = f"{checkpoint}: is of your own network {name}, and no code is imported because a file names it"
            raise InputError(problem, f"set network.name to {name} in {PARAMS} first")
        register_own_network(name)

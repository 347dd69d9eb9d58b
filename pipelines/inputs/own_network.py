"""The user's own network that `network.name` names: its module in networks/, its import, and its first build.

Code is imported from that folder of the project alone, and for a name alone that params.yaml, an override, a study or a command
line gives, never for one that a checkpoint, a genotype or a result holds. docs/SECURITY.md says so too. DVC and all keys watch
every Python file of the folder. ``gee_core.model.own`` says what a network must offer. Torch is loaded where one is built.
"""

import hashlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from gee_core.config import Params
from gee_core.config.network import OWN, is_own
from gee_core.data.meta import load_meta
from gee_core.errors import InputError, did_you_mean, in_section, place_in, raises
from gee_core.storage.atomic_files import sha256
from gee_core.storage.json_object import read_json_object
from pipelines.project.params import load_params
from pipelines.project.paths import NETWORKS, PARAMS, PREPARED
from pipelines.runtime.input_errors import TRACKED

if TYPE_CHECKING:
    from torch.nn import Module

    from gee_core.gene_file import GeneHeader
    from gee_core.model.wired import ImageShape

OFFER = "docs/reference/own-networks.md says what a network must offer"

_imported: dict[str, str] = {}
"""By name, the digest of the files with which a network was registered in this process."""


def network_files(name: str) -> list[Path]:
    """The Python files of networks/, on which an own network ``name`` may depend. A network of the table has none."""
    return sorted(NETWORKS.rglob("*.py")) if is_own(name) else []


def network_digest(name: str) -> str:
    """A checksum of ``network_files``, with which a worker compares its own. Empty for a network of the table."""
    listing = "".join(f"{file} {sha256(file)}\n" for file in network_files(name))
    return hashlib.sha256(listing.encode()).hexdigest() if listing else ""


def module_file(module: str) -> Path | None:
    """The file of a module of networks/, if there is one."""
    path = NETWORKS.joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def check_module_file(name: str) -> None:
    """Raise InputError where ``name`` is an own network and its module is not in networks/. Nothing is imported."""
    module = name.partition(":")[0]
    if not is_own(name) or (module_file(module) is not None and module.startswith(f"{NETWORKS}.")):
        return
    if not module.startswith(f"{NETWORKS}."):
        problem = f"network.name = {name}: not in the folder {NETWORKS}/, the only one from which a network's code is taken"
        raise InputError(problem, f"copy the module there and set it to {NETWORKS}.{name.rpartition('.')[2]}")
    stems = [path.stem for path in sorted(NETWORKS.glob("*.py"))]
    wanted = NETWORKS.joinpath(*module.split(".")[1:]).with_suffix(".py")
    remedy = did_you_mean(module.rpartition(".")[2], stems, f"{NETWORKS}.") or f"put the module there ({TRACKED})"
    raise InputError(f"network.name = {name}: {wanted}: no such file", remedy)


def register_own_network(name: str, digest: str = "") -> None:
    """Import the own network ``name`` and make it known to ``gee_core``. Nothing to do for a network of the table.

    Args:
        name: `network.name`.
        digest: the ``network_digest`` of the time when the run began.

    Raises:
        InputError: the module is missing, not in networks/, raises or lacks the name, is not that of ``digest``, or has changed
            since this process imported it, as a worker that outlives a run may have.
    """
    if not is_own(name):
        return
    check_module_file(name)
    now = network_digest(name)
    if digest not in ("", now) or _imported.get(name, now) != now:
        problem = f"network.name = {name}: the source in {NETWORKS}/ is not that with which the run, or a worker, began"
        raise InputError(problem, "start both again; workers on other machines need the same files")
    if name in OWN and name in _imported:
        return
    from gee_core.model.own import register_network

    try:
        register_network(name, _import(name))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"network.name = {error}", OFFER) from None
    _imported[name] = now


def _import(name: str) -> Callable[..., "Module"]:
    """The object that ``name`` names, of a module in networks/ of the project, whatever else is called networks."""
    module_name, _, attribute = name.partition(":")
    package = sys.modules.setdefault(NETWORKS.name, ModuleType(NETWORKS.name))
    package.__path__ = [str(NETWORKS.absolute())]
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        place = place_in([NETWORKS], error)
        where = f"{place[0].relative_to(NETWORKS.absolute().parent)}, {place[1]}" if place else module_file(module_name)
        inside = f"{NETWORKS}.{error.name}" if isinstance(error, ModuleNotFoundError) else ""
        remedy = f"write `from {inside} import …`" if inside and module_file(inside) else "fix it"
        raise InputError(f"network.name = {name}: {where} {raises(error)}", remedy) from error
    if not hasattr(module, attribute):
        remedy = did_you_mean(attribute, vars(module)) or "name a class or function of it"
        raise InputError(f"network.name = {name}: {module_file(module_name)} has no {attribute}", remedy)
    return getattr(module, attribute)


def build_own_network(params: Params, images: "ImageShape | None" = None, digest: str = "") -> None:
    """Register the own network of ``params`` and build it once, by which it is tried. Nothing to do for one of the table.

    ``images`` are those that it is built for, None the prepared ones.

    Raises:
        InputError: as ``register_own_network``, or the network does not answer as ``gee_core.model.own`` says.
    """
    network = params.network
    if not is_own(network.name):
        return
    register_own_network(network.name, digest)
    if images is None:
        try:
            images = load_meta(PREPARED)
        except InputError:  # the stage says so
            return
    from gee_core.model.wired import plain_parameters

    try:
        with in_section("network"):
            plain_parameters(network, images)
    except InputError:
        raise
    except ValueError as error:
        text = str(error).removeprefix(network.name).removeprefix(":").strip()
        raise InputError(f"network.name = {network.name}: {text}", OFFER) from None


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

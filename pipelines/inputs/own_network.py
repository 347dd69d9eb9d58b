"""Imports the user's own network that `network.name` names, from networks/, and makes it known to ``gee_core``.

Code is imported from that folder of the project alone, and for a name alone that params.yaml, an override, a study or a command
line gives, never for one that a checkpoint, a genotype or a result holds. docs/SECURITY.md says so too.
"""

import importlib
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gee_core.config import Params, PrepareConfig
from gee_core.config.known_networks import OWN, is_own
from gee_core.errors import InputError, did_you_mean, in_short
from gee_core.storage.json_object import read_json_object
from pipelines.inputs.network_files import module_file, network_digest
from pipelines.project.params import load_params
from pipelines.project.paths import NETWORKS, PARAMS

if TYPE_CHECKING:
    from gee_core.model.wired import ImageShape

TUTORIAL = "docs/tutorials/your-network.md says what a network must offer"

SHAPES = {"digits": (10, 1, 8), "fashion_mnist": (10, 1, 28), "cifar10": (10, 3, 32), "cifar100": (100, 3, 32)}
"""Classes, channels and side in pixels of the data sets that are known before they are prepared."""

SIZES = ("num_classes", "in_channels", "image_size")

_imported: dict[str, tuple[Path, str, tuple[int, ...]]] = {}
"""By name, the folder, the digest and the sizes with which a network was registered in this process."""


def register_own_network(name: str, shape: "ImageShape | None" = None, digest: str | None = None) -> None:
    """Import the own network ``name`` and make it known to ``gee_core``; nothing to do for one of the table.

    A file that has changed since it was imported is imported again.

    Args:
        name: `network.name`.
        shape: images for which it is built where only its layers are asked for.
        digest: what ``network_digest`` gave when the run began.

    Raises:
        InputError: the module is missing, not in networks/, raises, lacks the name, or is not that of ``digest`` any more.
    """
    if not is_own(name):
        return
    found = network_digest(name)
    if digest not in (None, "", found):
        problem = f"network.name = {name}: the source in {NETWORKS}/ is not that with which the run began"
        raise InputError(problem, "start the run again; workers on other machines need the same files")
    sizes = () if shape is None else tuple(getattr(shape, size) for size in SIZES)
    folder, digest_then, sizes_then = _imported.get(name, (None, "", ()))
    if name in OWN and (folder, digest_then) == (NETWORKS.absolute(), found) and sizes in ((), sizes_then):
        return
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # SpikingJelly asks for triton, and does without
    build = _imported_name(name)
    from gee_core.model.own import register_network

    try:
        register_network(name, build, **dict(zip(SIZES, sizes, strict=False)))
    except ValueError as error:
        raise InputError(f"network.name = {error}", TUTORIAL) from None
    _imported[name] = NETWORKS.absolute(), found, sizes


def _imported_name(name: str) -> Callable[..., Any]:
    """What ``name`` names, from a fresh import of its module; of all folders, only networks/ of the project is looked into."""
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
        raises = f"{_place(error, module_name)} raises {type(error).__name__}: {in_short(error)}"
        raise InputError(f"network.name = {name}: {raises}", "fix it") from error
    finally:
        sys.dont_write_bytecode = writes
    if not hasattr(module, attribute):
        of_its_own = (key for key, value in vars(module).items() if getattr(value, "__module__", "") == module_name)
        there = [key for key in of_its_own if callable(getattr(module, key))]
        remedy = did_you_mean(attribute, there) or f"it has {', '.join(there) or 'no class and no function'}"
        raise InputError(f"network.name = {name}: {module_file(module_name)} has no {attribute}", remedy)
    return getattr(module, attribute)


def _place(error: BaseException, module: str) -> str:
    """The file, and the line where it is known, of networks/ in which an import failed."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_relative_to(NETWORKS.absolute()):
            return f"{Path(frame.filename).relative_to(NETWORKS.absolute().parent)}, line {frame.lineno}"
    return str(module_file(module))


class ExpectedImages:
    """``ImageShape`` of images that may not be prepared yet, as far as the section `prepare` tells."""

    def __init__(self, cfg: PrepareConfig):
        self.num_classes, self.in_channels, size = SHAPES.get(cfg.dataset, (10, 3, 32))
        if cfg.image_size is None and cfg.dataset not in SHAPES:
            size = _first_size(Path(cfg.path)) or size
        self.image_size = cfg.image_size or size


def _first_size(folder: Path) -> int | None:
    """The shorter side of some image below ``folder``, in pixels; hidden files and folders are left out, as in prepare."""
    from PIL import Image

    from gee_core.data.pixels import EXTENSIONS

    images = (path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    file = next((path for path in images if not any(p.startswith(".") for p in path.relative_to(folder).parts)), None)
    try:
        with Image.open(file) as image:  # type: ignore[arg-type]
            return min(image.size)
    except (OSError, AttributeError, ValueError, Image.DecompressionBombError):  # prepare names it
        return None


@contextmanager
def building(name: str) -> Iterator[None]:
    """Turn a ``ValueError`` of the body, which builds the own network ``name``, into an ``InputError``."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        text = str(error)
        if text.startswith(("network.", "evolve.")):  # it names a key, and what to set it to
            raise InputError(text) from None
        text = text.removeprefix(name).removeprefix(":").strip()
        raise InputError(f"network.name = {name}: {text}", TUTORIAL) from None


def register_configured(params: Params) -> None:
    """``register_own_network`` for the network of ``params``, and what params.yaml alone could not be checked for.

    Raises:
        InputError: as there, or `evolve.rescore.top` is more than the candidates of a generation.
    """
    if is_own(params.network.name):
        register_own_network(params.network.name, ExpectedImages(params.prepare))
        with building(params.network.name):
            params.check_top()


def check_own_network(params: Params) -> None:
    """``register_configured``, and build the network once; nothing to do for one of the table.

    Raises:
        InputError: as there, or it cannot be built, encoded or run, or has batch norms that `train.sync_batch_norm` cannot
            synchronise.
    """
    if is_own(params.network.name):
        register_configured(params)
        from gee_core.model.wired import wired_network
        from gee_core.snn.synced_norm import sync_batch_norms

        with building(params.network.name):
            net = wired_network(params.network, ExpectedImages(params.prepare), None, 0)
        if params.train.sync_batch_norm:
            sync_batch_norms(net)


def register_if_configured(checkpoint: Path) -> None:
    """Register the own network of a checkpoint, or of a file of genes, if params.yaml names it.

    The name in the file alone imports no code.

    Raises:
        InputError: it is an own network, and params.yaml names another.
    """
    from gee_core.gene_file import is_gene_file, read_architecture

    try:
        genes = is_gene_file(checkpoint)
        network = (read_architecture(checkpoint) if genes else read_json_object(checkpoint.with_suffix(".json")))["network"]
        name = network["name"] if isinstance(network, dict) else ""
    except (OSError, ValueError, KeyError):  # whoever loads it says so
        return
    if isinstance(name, str) and is_own(name):
        if name != load_params().network.name:
            problem = f"{checkpoint}: is of your own network {name}, and no code is imported because a file names it"
            raise InputError(problem, f"set network.name to {name} in {PARAMS} first")
        register_own_network(name)

"""The user's own network that `network.name` names: its source files in networks/, its import, and its check before a run.

Code is imported from that folder of the project alone, and for a name alone that params.yaml, an override, a study or a command
line gives, never for one that a checkpoint, a genotype or a result holds. docs/SECURITY.md says so too. Torch is loaded where a
network is built, so stages that only compare checksums do not load it.
"""

import ast
import hashlib
import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from gee_core.config import Events, Params, PrepareConfig
from gee_core.config.known_networks import OWN, is_own
from gee_core.data.meta import load_meta
from gee_core.errors import InputError, did_you_mean, in_short, place_in, raises
from gee_core.storage.atomic_files import sha256
from gee_core.storage.json_object import read_json_object
from gee_core.zoo import NETWORKS as TABLE
from pipelines.inputs.remedies import TRACKED
from pipelines.project.params import load_params
from pipelines.project.paths import NETWORKS, PARAMS, PREPARED

if TYPE_CHECKING:
    from gee_core.gene_file import GeneHeader
    from gee_core.model.network import SpikingNetwork
    from gee_core.model.wired import ImageShape

OFFER = "docs/reference/own-networks.md says what a network must offer"

_imported: dict[str, tuple[Path, str, dict[str, int]]] = {}
"""By name, the folder, the digest and the sizes with which a network was registered in this process."""


def network_digest(name: str) -> str:
    """A checksum of what determines the network ``name``: its entry in the table and no other, or its source files."""
    if not is_own(name):
        return hashlib.sha256(repr(TABLE[name]).encode()).hexdigest()
    return hashlib.sha256("".join(f"{file} {sha256(file)}\n" for file in network_files(name)).encode()).hexdigest()


def network_files(name: str) -> list[Path]:
    """The source of the own network ``name``: its file, and the files of networks/ that it imports; none for the table's.

    Raises:
        InputError: the file is missing, not in networks/, or one of them is no Python.
    """
    if not is_own(name):
        return []
    module = name.partition(":")[0]
    if not module.startswith(f"{NETWORKS}."):
        problem = f"network.name = {name}: not in the folder {NETWORKS}/, the only one from which a network's code is taken"
        raise InputError(problem, f"copy the module there and set it to {NETWORKS}.{name.rpartition('.')[2]}")
    if module_file(module) is None:
        stems = [path.stem for path in sorted(NETWORKS.glob("*.py"))]
        wanted = NETWORKS.joinpath(*module.split(".")[1:]).with_suffix(".py")
        remedy = did_you_mean(module.rpartition(".")[2], stems, f"{NETWORKS}.") or f"put the module there ({TRACKED})"
        raise InputError(f"network.name = {name}: {wanted}: no such file", remedy)
    found: dict[str, Path] = {}
    new = [module]
    while new:
        parts = new.pop().split(".")
        for depth in range(2, len(parts) + 1):  # a package's own file runs before its modules
            package = ".".join(parts[:depth])
            if package not in found and (file := module_file(package)) is not None:
                found[package] = file
                new += _imports(package, file, name)
    return sorted(found.values())


def module_file(module: str) -> Path | None:
    """The file of a module of networks/, if there is one."""
    path = NETWORKS.joinpath(*module.split(".")[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imports(module: str, file: Path, name: str) -> Iterator[str]:
    """What ``file`` imports from networks/; of ``from a import b`` both a and a.b, since b may be a module."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        place = f"{file}, line {error.lineno}" if isinstance(error, SyntaxError) else str(file)
        raise InputError(f"network.name = {name}: {place}: no Python ({in_short(error)})", "fix it") from None
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level or None]
            if node.level and file.name == "__init__.py":
                package = module.split(".")[: 1 - node.level or None]
            origin = ".".join([*(package if node.level else []), *([node.module] if node.module else [])])
            names = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        yield from (found for found in names if found.startswith(f"{NETWORKS}."))


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
    sizes = {} if shape is None else {size: getattr(shape, size) for size in ("num_classes", "in_channels", "image_size")}
    folder, digest_then, sizes_then = _imported.get(name, (None, "", {}))
    if name in OWN and (folder, digest_then) == (NETWORKS.absolute(), found) and sizes in ({}, sizes_then):
        return
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # SpikingJelly asks for triton, and does without
    build = _imported_name(name)
    from gee_core.model.own import register_network

    try:
        register_network(name, build, **sizes)
    except ValueError as error:
        raise InputError(f"network.name = {error}", OFFER) from None
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
        remedy = did_you_mean(attribute, vars(module)) or "name a class or function of it"
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
        raise InputError(f"network.name = {name}: {text}{tried_with}", OFFER) from None
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


class ExpectedImages(NamedTuple):
    """``ImageShape`` of images that may not be prepared yet, and ``origin``: where the numbers of image files come from."""

    num_classes: int
    in_channels: int
    image_size: int
    origin: str = ""
    events: Events | None = None


def expected_images(cfg: PrepareConfig) -> ExpectedImages:
    """The images of the section `prepare`; of a folder, at most 100 files are looked into for their channels."""
    if known := cfg.known:
        return ExpectedImages(known.n_classes, known.channels, cfg.image_size or known.side, events=cfg.events)
    from gee_core.data.folders import endings_of, list_images
    from gee_core.data.image_files import common_form, header

    root = Path(cfg.path)
    listing = list_images(root, endings_of(cfg.events))
    files = listing.all_files
    if cfg.events is not None:
        form = common_form(root, files, cfg.image_size, cfg.events)
        return ExpectedImages(len(listing.class_names), form.in_channels, form.image_size, events=form.events)
    heads = [header(root / file) for file in files[:: -(-len(files) // 100)]]
    K, C = len(listing.class_names), 1 if all(head.is_grey for head in heads) else 3
    origin = f" (tried with {K} classes and {C} channel{'s' if C > 1 else ''}, by {len(heads)} of the images in {root})"
    return ExpectedImages(K, C, cfg.image_size or min(heads[0][:2]), origin)


def check_network(params: Params) -> None:
    """Check an own network by two images through it, and any network by two images of each of `evolve.sizes`, `train.sizes`."""
    sizes = {"evolve": params.evolve.sizes, "train": params.train.sizes}
    own = is_own(params.network.name)
    if not own and not any(sizes.values()):
        return
    images = expected_images(params.prepare)
    if own:
        net = build_own_network(params, images, images.origin)
        if params.prepare.events is not None:
            remedy = "let its forward take frames of events (T, B, P, H, W) and return o (T, B, K)"
            _check_runs(f"network.name = {params.network.name}", [images.image_size], params, images, remedy)
        if params.train.sync_batch_norm:
            from gee_core.snn.synced_norm import sync_batch_norms

            sync_batch_norms(net)
    for section, wanted in sizes.items():
        if wanted is not None:
            _check_runs(f"{section}.sizes = {wanted}", wanted, params, images, "leave out {size}, or choose a greater one")


def _check_runs(named: str, sizes: list[int], params: Params, images: ExpectedImages, otherwise: str) -> None:
    import torch

    from gee_core.model.wired import wired_network

    if max(sizes) > images.image_size:
        raise InputError(f"{named}: the images have {images.image_size} pixels", f"set it to {images.image_size} or less")
    frames = () if params.prepare.events is None else (params.network.T,)
    net = wired_network(params.network.model_copy(update={"n_genes": None, "init": None}), images, None, 0).eval()
    for size in sorted(set(sizes)):
        try:
            with torch.no_grad():
                net(torch.zeros(*frames, 2, images.in_channels, size, size))
        except (RuntimeError, ValueError) as error:
            problem = f"{named}: {params.network.name} does not run on images of {size} pixels ({in_short(error)})"
            raise InputError(problem, otherwise.format(size=size)) from None

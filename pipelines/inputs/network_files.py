"""The files behind `network.name`, and their checksum. Nothing is imported here, so stages that only compare need no torch."""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

from gee_core.config.known_networks import is_own
from gee_core.errors import InputError, did_you_mean, in_short
from gee_core.storage.atomic_files import sha256
from gee_core.zoo import NETWORKS as TABLE
from pipelines.inputs.remedies import TRACKED
from pipelines.project.paths import NETWORKS


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

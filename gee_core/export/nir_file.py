"""NIR graphs as files: HDF5, as the package ``nir`` writes it. Nothing in them is executed."""

import io
from pathlib import Path

import nir
from nir.serialization import read_version

from gee_core.errors import InputError, in_short
from gee_core.export.to_nir import not_finite
from gee_core.storage.atomic_files import write_atomically


def write_nir(path: str | Path, graph: nir.NIRGraph) -> None:
    """Write ``graph`` to ``path``: all of it, or nothing. Equal graphs give equal bytes."""
    file = io.BytesIO()
    nir.write(file, graph)
    write_atomically(Path(path), file.getvalue())


def read_nir(path: str | Path) -> nir.NIRGraph:
    """The graph in a file, its shapes checked.

    Raises:
        InputError: the file is missing, damaged or of another major version of NIR, or a number in it is not finite.
    """
    remedy = "write it again with gee_core.write_nir, or name another file"
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file", "name a file that gee_core.write_nir wrote")
    try:
        version = read_version(path)
        if version.partition(".")[0] != nir.version.partition(".")[0]:
            raise InputError(f"{path}: is of NIR {version[:20]!r}, and the installed nir is {nir.version}", remedy)
        graph = nir.read(path)
    except InputError:
        raise
    except Exception as error:  # of h5py and nir, which check little and have no error of their own
        raise InputError(f"{path}: cannot be read as NIR ({type(error).__name__}: {in_short(error)})", remedy) from None
    if name := not_finite(graph):
        raise InputError(f"{path}: a number of node {name} is not finite", remedy)
    return graph

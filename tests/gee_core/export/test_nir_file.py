"""NIR files: whole or not there, and refused in one message where they are damaged."""

import functools

import h5py
import nir
import numpy as np
import pytest

from gee_core.errors import InputError
from gee_core.export.to_nir import read_nir, to_nir, write_nir
from gee_core.model.network import build_network


@functools.cache
def graph() -> nir.NIRGraph:
    return to_nir(build_network("cifarnet", 5, 1, 8, width=1 / 64), 1, 8)


@pytest.fixture
def path(tmp_path):
    write_nir(tmp_path / "network.nir", graph())
    return tmp_path / "network.nir"


def test_a_graph_is_read_as_it_was_written_and_equal_graphs_are_equal_bytes(path):
    again = read_nir(str(path))
    assert list(map(tuple, again.edges)) == graph().edges
    assert set(again.nodes) == set(graph().nodes)
    for name, node in graph().nodes.items():
        for key, value in vars(node).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(again.nodes[name], key), value)
                assert getattr(again.nodes[name], key).dtype == value.dtype
    assert again.metadata == graph().metadata
    write_nir(path.with_name("again.nir"), graph())
    assert path.with_name("again.nir").read_bytes() == path.read_bytes()


def put(key, value):
    """Puts ``value`` in the place of an entry of the file."""

    def damage(path):
        with h5py.File(path, "r+") as file:
            del file[key]
            file[key] = value

    return damage


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1000]), r"cannot be read as NIR \(OSError: .*truncated"),
        (lambda path: path.unlink(), "no such file"),
        (put("version", "9.1.0"), rf"is of NIR '9\.1\.0', and the installed nir is {nir.version}"),
        (put("node/edges", [["input", "nowhere"]]), r"cannot be read as NIR \(ValueError: .*nowhere"),
        (put("node/nodes/stem.conv/bias", np.full(1, np.nan)), r"a number of node stem\.conv is not finite"),
    ],
    ids=["cut", "missing", "version", "edge", "NaN"],
)
def test_a_file_that_is_no_whole_nir_graph_is_refused_in_one_line_that_names_it(path, damage, says):
    damage(path)
    with pytest.raises(InputError, match=says) as refused:
        read_nir(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value) and refused.value.remedy

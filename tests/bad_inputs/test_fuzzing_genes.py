"""Damage by chance to files of genes: reading one ends well or with InputError, and in time."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from gee_core.checkpoint import load
from gee_core.gene_file import GENE_FORMATS, GENES_ENTRY, _checksum, read_card, save_genes
from gee_core.model.network import build_network
from tests.bad_inputs.damage import CHANGES, DAMAGE, changed, damaged, reads, tries

pytestmark = pytest.mark.slow
FORMAT = st.sampled_from(GENE_FORMATS)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, bytes]:
    """Files of a small network, by format."""
    folder, net = tmp_path_factory.mktemp("genes"), build_network("vgg16", 3, 1, 8, 3, 1 / 32, T=2)
    for format in GENE_FORMATS:
        save_genes(folder / format, net, format, {"class_names": ["a", "b", "c"]})
    return {format: (folder / format).read_bytes() for format in GENE_FORMATS}


@tries(150)
@given(steps=DAMAGE, format=FORMAT, header_only=st.booleans())
def test_damaged_bytes_are_never_read(steps, format, header_only, good, tmp_path):
    content, path = good[format], tmp_path / "genes.safetensors"
    end = 8 + struct.unpack("<Q", content[:8])[0] if header_only else len(content)
    path.write_bytes(damaged(content[:end], steps) + content[end:])
    reads(read_card, path)
    if reads(load, path):
        assert path.read_bytes() == content


@tries(150)
@given(change=CHANGES, format=FORMAT)
def test_headers_that_somebody_made_with_care(change, format, good, tmp_path):
    path = tmp_path / "genes.safetensors"
    path.write_bytes(good[format])
    tensors, content = load_file(path), good[format]
    values = json.loads(json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"][GENES_ENTRY])
    values = changed(values, *change)
    values["sha256"] = _checksum({key: value for key, value in values.items() if key != "sha256"}, tensors)
    path.write_bytes(to_bytes(tensors, {GENES_ENTRY: json.dumps(values, default=str)}))
    reads(load, path)

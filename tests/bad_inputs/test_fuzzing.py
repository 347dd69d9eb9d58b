"""Damage by chance to bytes, values and structure of files: reading one ends well or with InputError, and in time."""

import hashlib
import io
import json
import struct
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from gee_core.checkpoint import load
from gee_core.data.meta import load_meta
from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.gene_file import GENE_FORMATS, GENES_ENTRY, read_card, save_genes
from gee_core.model.network import build_network
from gee_core.storage.tensor_file import checksum
from pipelines.commands.prediction import open_model, predict
from pipelines.inputs.genotype_file import load_genotype
from pipelines.inputs.loading import load_trained
from pipelines.inputs.search import load_start
from pipelines.project.params import load_params
from pipelines.studies.definition import load_study
from pipelines.studies.plan import Request, draft_cells
from tests.bad_inputs.case import write
from tests.bad_inputs.conftest import CARD, write_model

pytestmark = pytest.mark.slow
CHECKPOINT, ITS_JSON = Path("models/train/network.safetensors"), Path("models/train/network.json")
GENOTYPE, META = Path("models/evolve/genotype.json"), Path("data/prepared/meta.json")
STUDY, PARAMS, GENES = Path("studies/tiny.yaml"), Path("params.yaml"), Path("genes.safetensors")

PLACES = st.floats(0, 1, exclude_max=True)
DAMAGE = st.lists(st.tuples(PLACES, st.integers(0, 40), st.binary(max_size=12)), min_size=1, max_size=4)
"""Where, how many bytes are taken out, and what is put in their place."""
NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from([2**31, 2**63, 2**64, -1, 0, 1e308, 5e-324, float("inf"), float("nan")]),
    st.sampled_from(["", ".", "/", "~", "/dev/zero", "\0", "\x1b[2J", "a\nb", "x" * 5000, "<script>", "${HOME}", "{{ 1 }}"]),
    st.lists(st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5)), max_size=4),
    st.dictionaries(st.text(max_size=8), st.one_of(st.none(), st.integers(), st.text(max_size=5)), max_size=3),
)
CHANGES = st.lists(st.tuples(PLACES, NASTY, st.sampled_from(["replace", "replace", "remove", "add"])), min_size=1, max_size=3)


def tries(n: int) -> settings:
    hang = timedelta(minutes=5)
    return settings(max_examples=n, deadline=hang, database=None, suppress_health_check=list(HealthCheck))


def reads(read: Callable, *arguments) -> bool:
    """Whether ``read`` is content. An error that is not InputError escapes, and one that would spoil a terminal."""
    try:
        read(*arguments)
    except InputError as error:
        assert all(line.isprintable() and 0 < len(line) < 1500 for line in str(error).split("\n")), str(error)
        return False
    return True


def damaged(content: bytes, steps: list[tuple[float, int, bytes]]) -> bytes:
    for place, size, new in steps:
        start = int(place * len(content))
        content = content[:start] + new + content[start + size :]
    return content


def changed(values: dict, changes: list) -> dict:
    """``values`` with some of its parts, at any depth, replaced, removed or joined by others."""
    values = json.loads(json.dumps(values))
    for place, value, what in map(deepcopy, changes):  # one list twice could hold itself
        parts = list(_parts(values))
        if not parts:
            return values
        owner, key = parts[int(place * len(parts))]
        if what == "replace":
            owner[key] = value
        elif what == "remove":
            del owner[key]
        elif isinstance(owner, dict):
            owner[str(value)[:20]] = value
        else:
            owner.insert(key, value)
    return values


def _parts(value):
    for key, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(part, dict | list):
            yield from _parts(part)


@tries(200)
@given(steps=DAMAGE, changes=CHANGES, by_value=st.booleans())
def test_params(steps, changes, by_value, project, good_project):
    content = (good_project / PARAMS).read_bytes()
    values, file = YAML(typ="safe").load(content), io.BytesIO()
    try:
        YAML().dump(changed(values, changes), file)
    except Exception:  # the writer cannot hold them
        return
    PARAMS.write_bytes(file.getvalue() if by_value else damaged(content, steps))
    if reads(load_params):
        assert set(load_params().model_dump()) == set(values)


@tries(100)
@given(text=st.text("[]{}:-,*&!|>'\"%@`#?~.<0123456789abcxyz \n\t", max_size=200), steps=DAMAGE)
def test_studies_and_what_only_looks_like_yaml(text, steps, project, good_project):
    PARAMS.write_text(text)
    assert not reads(load_params)
    STUDY.write_bytes(damaged((good_project / STUDY).read_bytes(), steps))
    reads(lambda: draft_cells(load_study("tiny"), Request("tiny")))


@tries(300)
@given(steps=DAMAGE, changes=CHANGES, by_value=st.booleans())
def test_genotypes(steps, changes, by_value, project, good_project, make_params):
    content = (good_project / GENOTYPE).read_bytes()
    spoilt = json.dumps(changed(json.loads(content), changes)).encode() if by_value else damaged(content, steps)
    GENOTYPE.write_bytes(spoilt)
    reads(lambda path: load_genotype(make_params(), path), GENOTYPE)
    write("inputs/old.json", spoilt)(project)
    reads(load_start, make_params(evolve={"start": "inputs/old.json"}), 8)


@tries(150)
@given(steps=DAMAGE, changes=CHANGES, kind=st.sampled_from(["tensors", "json", "crafted"]))
def test_checkpoints(steps, changes, kind, project, good_project, make_params):
    content, about = ((good_project / path).read_bytes() for path in (CHECKPOINT, ITS_JSON))
    spoilt = about if kind == "tensors" else damaged(about, steps)
    if kind != "json":
        content = damaged(content, steps)
    if kind == "crafted":  # with a checksum that fits
        sha256 = {"sha256": hashlib.sha256(content).hexdigest()}
        spoilt = json.dumps(changed(json.loads(about), changes) | sha256).encode()
    CHECKPOINT.write_bytes(content)
    ITS_JSON.write_bytes(spoilt)
    read = reads(load_trained, make_params(), load_meta(META.parent), CHECKPOINT)
    assert not read or kind != "tensors" or content == (good_project / CHECKPOINT).read_bytes()


@tries(150)
@given(changes=CHANGES)
def test_descriptions_of_images_and_of_a_model(changes, project, good_project):
    META.write_text(json.dumps(changed(json.loads((good_project / META).read_text()), changes)))
    if reads(load_meta, META.parent):
        reads(load_prepared, META.parent)
    write_model(Path("network.onnx"), json.dumps(changed(CARD, changes)))
    reads(lambda: predict(Path(), [Path("images/test/cat/0.png")], open_model("network.onnx"), top=3))


@pytest.fixture(scope="module")
def good_genes(tmp_path_factory) -> dict[str, bytes]:
    """Files of genes of a small network, by format."""
    folder, net = tmp_path_factory.mktemp("genes"), build_network("vgg16", 3, 1, 8, 3, 1 / 32, T=2)
    for format in GENE_FORMATS:
        save_genes(folder / format, net, format, {"class_names": ["a", "b", "c"]})
    return {format: (folder / format).read_bytes() for format in GENE_FORMATS}


@tries(80)
@given(steps=DAMAGE, changes=CHANGES, format=st.sampled_from(GENE_FORMATS))
def test_files_of_genes(steps, changes, format, good_genes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = good_genes[format]
    GENES.write_bytes(damaged(good, steps))
    reads(read_card, GENES)
    if reads(load, GENES):
        assert GENES.read_bytes() == good
    GENES.write_bytes(good)
    tensors, header = load_file(GENES), json.loads(good[8 : 8 + struct.unpack("<Q", good[:8])[0]])
    values = changed(json.loads(header["__metadata__"][GENES_ENTRY]), changes)
    values["sha256"] = checksum({key: value for key, value in values.items() if key != "sha256"}, tensors)
    GENES.write_bytes(to_bytes(tensors, {GENES_ENTRY: json.dumps(values, default=str)}))
    reads(load, GENES)

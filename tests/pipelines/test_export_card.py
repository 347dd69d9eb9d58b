"""The model card inside the files of an exported network: equal in each, and refused where it is wrong."""

import json
import shutil
from pathlib import Path

import onnx
import onnxruntime
import pytest

from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.export.to_nir import read_nir
from gee_core.export.to_onnx import with_card
from gee_core.gene_file import save_genes
from pipelines.commands.prediction import open_model
from pipelines.export import build_model_card
from tests.project_copy import ROOT


@pytest.fixture
def folder(exported, tmp_path, monkeypatch) -> Path:
    """A project's folder, and the current one; its models/export."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(exported.parent, tmp_path / "models/export"))


def test_onnx_and_nir_files_hold_the_model_card_and_nothing_of_the_machine(exported, digits, make_params):
    card, model = build_model_card(make_params(), load_prepared(digits).meta), exported.read_bytes()
    found = onnxruntime.InferenceSession(exported).get_modelmeta()
    assert list(found.custom_metadata_map) == ["gee.card"] and "(pixels / 255 - mean) / std" in found.description
    assert json.loads(found.custom_metadata_map["gee.card"]) == json.loads(exported.with_name("meta.json").read_text())
    assert with_card(model, card) == model  # equal bytes, also of a file that has one
    in_nir = read_nir(exported.with_name("network.nir")).metadata["gee.card"]
    assert json.loads(in_nir) == json.loads(exported.with_name("meta.json").read_text())
    assert str(ROOT).encode() not in model and b"stack_trace" not in model


@pytest.mark.parametrize(
    ("card", "says"),
    [({"T": "two"}, "T: Input should be a valid integer"), ({"mean": []}, "its mean and std are not those"), (None, "")],
)
def test_a_bad_card_inside_a_file_is_refused_in_one_line_with_what_is_wrong_in_it(card, says, folder, net):
    values = json.loads((folder / "meta.json").read_text()) | (card or {})
    (folder / "meta.json").unlink()
    save_genes(folder / "genes.safetensors", net, "int8", values)
    model = onnx.load(folder / "network.onnx")
    model.metadata_props[0].value = json.dumps(values) if card else "[" * 100_000
    onnx.save(model, folder / "other.onnx")
    with pytest.raises(InputError, match=rf"^[^\n]*other\.onnx: damaged \({says}[^\n]*$"):
        open_model(folder / "other.onnx")
    if card:
        with pytest.raises(InputError, match=rf"genes\.safetensors: its card is not as gee predict needs it \({says}"):
            open_model(folder / "genes.safetensors")
        save_genes(folder / "genes.safetensors", net, "int8", values | card | {"T": 2, "mean": [0.3], "image_size": 4096})
        with pytest.raises(InputError, match=r"genes\.safetensors: its card says image_size = 4096, its network is for 8"):
            open_model(folder / "genes.safetensors")

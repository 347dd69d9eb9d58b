"""What the README of an exported model says, and that its code runs."""

import json
import re
import shutil

import pytest
import torch
from ruamel.yaml import YAML

from gee_core.data.prepared import load_prepared
from pipelines.inputs.measured import Exported
from pipelines.reporting.model_readme import describe
from tests.pipelines.conftest import EVALUATION, SEARCHED
from tests.project_copy import ROOT, run

NO_GENES = Exported(agreement=1.0, onnx_bytes=1)
GENES = NO_GENES.model_copy(update={"genes_bytes": 10**6, "genes_accuracy": 0.7, "fp32_accuracy": 0.7})
WITH_GENES_ONNX = GENES.model_copy(update={"genes_onnx_bytes": 10**6})


@pytest.fixture
def readme(make_params, digits):
    """The README with changes to params, to the images and to what lies next to the model."""

    def make(exported=NO_GENES, others=(), images=(), **sections) -> str:
        meta = load_prepared(digits).meta.model_copy(update=dict(images))
        params = make_params(**{"export": {"genes": "int8", "register_model": True}} | sections)
        return describe("gee", params, meta, SEARCHED, EVALUATION, exported, meta.class_names[0], others)

    return make


def test_it_has_what_was_measured_and_on_what(readme, digits):
    text = readme(GENES, ["network.nir"]).replace("\N{NO-BREAK SPACE}", " ")
    for part in ("# gee", "| accuracy | 75.00% |", load_prepared(digits).meta.digest, "    epochs: 4\n    batch_size: 16\n"):
        assert part in text


def test_its_front_matter_is_a_model_card_of_the_hugging_face_hub(readme):
    known, own = (YAML(typ="safe").load(readme(images={"dataset": n}).split("---\n")[1]) for n in ("cifar10", "a 'b': \"<c>"))
    said = {"library_name": "gee-snn", "license": "mit", "pipeline_tag": "image-classification"}
    assert said.items() <= known.items() and known["datasets"] == ["uoft-cs/cifar10"]
    assert known["model-index"][0]["results"][0]["dataset"] == {"name": "cifar10", "type": "uoft-cs/cifar10"}
    assert known["model-index"][0]["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.75}]
    assert said.items() <= own.items() and "datasets" not in own  # the hub knows no data set of that name
    assert own["model-index"][0]["results"][0]["dataset"]["name"] == "a 'b': \"<c>"


def test_with_a_thousand_classes_it_is_short_enough_for_mlflow(readme):
    names = tuple(f"{k} {'long' * 60}" for k in range(1000))
    images = {"class_names": names, "class_counts": (7,) * 1000, "num_classes": 1000}
    text = readme(WITH_GENES_ONNX, ["network.nir"], images=images)
    assert "and 990 more" in text and len(text) < 5000


def test_names_are_text(readme):
    images = {"class_names": ("<b>", "a\nb", "[x](y)", *"3456789"), "source": "`a*", "class_counts": (8, 2, *[4] * 8)}
    text = readme(images=images)
    assert r"Classes: \<b\>, a b, \[x\]\(y\), 3, 4" in text and r"(\`a\*)" in text and r"of class \<b\>." in text
    assert r"They are uneven: '\<b\>' has 8 training images, 4.0 times as many as 'a\\nb' with 2." in text


def test_an_own_network_is_named_and_registered_first(readme):
    network = {"name": "networks.my:VGG", "width": 0.5}
    text = readme(GENES, network=network, evolve={"variant": "analytic", "genes": ["sigma_O", "sigma_X"]})
    assert "`networks.my:VGG` at width 0.5, 2 time steps" in text and "the paper's channels" not in text
    assert 'after `gee_core.register_network("networks.my:VGG"' in text


def test_it_names_models_of_mlflow_and_files_only_where_they_are(readme):
    in_mlflow, in_folder = readme(), readme(export={"genes": "int8", "register_model": False})
    assert "models:/gee@champion" in in_mlflow and "perhaps another network" in in_mlflow
    assert "models:/" not in in_folder and "gee predict --model" in in_folder
    optional = ("genes.onnx", "genes.safetensors", "network.safetensors", "network.nir")
    assert [name for name in optional if name in in_mlflow + in_folder] == []
    assert "network.onnx" in in_mlflow and "network.onnx" in in_folder
    everything = readme(WITH_GENES_ONNX, ["network.nir"])
    assert [name for name in optional if name not in everything] == ["network.safetensors"]


def test_the_code_of_the_readme_runs_in_its_folder_and_answers_as_the_network_does(
    exported, readme, net, digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(shutil.copytree(exported.parent, tmp_path / "export"))
    data = load_prepared(digits)
    with torch.no_grad():
        expected = net(data.meta.normalise(data.test.images[:1])).mean(0).softmax(1)[0].numpy()
    (onnx_alone,) = re.findall(
        r"^```python\n(.*?)^```", readme(export={"register_model": False, "genes": None}), flags=re.DOTALL | re.MULTILINE
    )
    exec(compile(onnx_alone, "README.md", "exec"), {})
    said = capsys.readouterr().out.split()
    assert said[0] == data.meta.class_names[expected.argmax()] and float(said[1]) == pytest.approx(expected.max(), abs=1e-4)


def test_the_request_is_json_whatever_the_length_of_the_image(readme, tmp_path):
    (tmp_path / "models/export").mkdir(parents=True)
    (tmp_path / "models/export/example.png").write_bytes(bytes(range(256)) * 9)  # base64 breaks lines
    for text in (
        readme(export={"register_model": True, "genes": None}),
        (ROOT / "docs/tutorials/use-the-model.md").read_text(encoding="utf-8"),
    ):
        (line,) = [line for line in text.splitlines() if "printf" in line]
        run(tmp_path, "sh", "-c", line.strip().replace("/tmp/in.json", f"{tmp_path}/in.json"))
        ((row,),) = [json.loads((tmp_path / "in.json").read_text())["dataframe_records"]]
        assert len(row["image"]) == 3072 and "base64 -" not in line

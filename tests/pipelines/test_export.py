import json
import shutil
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from gee_core.checkpoint import load
from gee_core.config.params import PromoteMetric
from gee_core.data.prepared import load_prepared
from gee_core.errors import ExportError
from gee_core.export.model_card import ModelCard
from gee_core.export.nir_file import read_nir
from gee_core.gene_file import read_card
from gee_core.model.network import build_network
from gee_core.storage.atomic_files import write_json
from pipelines import export
from pipelines.export import build_model_card, registered_name
from pipelines.inputs.evaluation import Evaluation
from pipelines.inputs.prepared_images import spaced
from pipelines.project.paths import NIR
from pipelines.reporting.model_readme import describe
from pipelines.tracking.entries import FILES
from tests.pipelines.conftest import MEASURED


def test_onnx_runtime_agrees_with_the_network_with_its_genes(net, exported, digits, make_params, monkeypatch):
    data = load_prepared(digits)
    monkeypatch.setattr(export, "to_onnx", lambda *_: exported.read_bytes())
    monkeypatch.setattr(export, "BATCH", 3)
    model, metrics = export.run(make_params(), net, data)
    x = data.meta.normalise(spaced(data.test, 8).images).contiguous()
    with torch.no_grad():
        expected = net(x).mean(0).numpy()
    (logits,) = onnxruntime.InferenceSession(model).run(None, {"images": x.numpy()})
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert metrics["max_abs_difference"] == pytest.approx(np.abs(logits - expected).max(), abs=1e-5)
    assert metrics["agreement"] == (logits.argmax(1) == expected.argmax(1)).mean() == 1.0
    assert metrics["onnx_bytes"] == len(model)


def test_a_disagreement_would_show(net, exported, digits, make_params, monkeypatch):
    monkeypatch.setattr(export, "to_onnx", lambda *_: exported.read_bytes())

    class Shifted(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x).roll(1, -1)

    monkeypatch.setattr(export, "for_inference", lambda net: Shifted(net))
    _, metrics = export.run(make_params(), net, load_prepared(digits))
    assert metrics["max_abs_difference"] > 0.01
    assert metrics["agreement"] < 1


def test_the_stage_writes_the_model_what_a_user_must_know_and_its_metrics(in_project, trained, exported, monkeypatch):
    monkeypatch.setattr(export, "to_onnx", lambda *_: exported.read_bytes())  # equal networks give equal bytes: see the core
    told = []

    class Tracked:
        def __getattr__(self, name):
            return lambda *args, **kwargs: told.append((name, args))

    monkeypatch.setattr("pipelines.stage.open_tracker", lambda name, params: Tracked())
    folder = in_project(export={"promote_metric": "energy_mj"})
    shutil.copytree(trained.parent, folder / "models/train")
    write_json(folder / "reports/evaluate/metrics.json", MEASURED)
    export.main()
    for name in (*FILES, NIR.name):
        assert (folder / "models/export" / name).read_bytes() == exported.with_name(name).read_bytes()
    card = json.loads((folder / "models/export/meta.json").read_text())
    assert card.pop("T") == 2
    assert card == {
        "network": "vgg16",
        "n_genes": 6,
        "class_names": list("0123456789"),
        "in_channels": 1,
        "image_size": 8,
        "mean": [0.3],
        "std": [0.38],
    }
    metrics = json.loads((folder / "reports/export/metrics.json").read_text())
    in_nir = {"nir_agreement", "nir_spike_agreement", "nir_bytes"}
    assert set(metrics) == {"max_abs_difference", "agreement", "onnx_bytes", *in_nir}
    ((model,),) = [args for name, args in told if name == "model"]
    assert (model.name, model.register, model.dataset) == ("gee-digits-vgg16-g6", False, "digits")
    assert (model.promote_metric, model.higher_is_better) == ("energy_mj", False)
    assert model.metrics == MEASURED | metrics
    assert "metrics" not in [name for name, _ in told]  # MLflow logs a model's on the run that logs the model
    assert model.params == {"network": "vgg16", "variant": "ste", "seed": 0, "n_genes": 6, "width": 1 / 16, "T": 2}
    assert model.digest == load_prepared(folder / "data/prepared").meta.digest


@pytest.fixture(scope="module")
def written(net, digits, make_params, tmp_path_factory):
    """(the folder with both files of genes, what was measured) of int4."""
    folder = tmp_path_factory.mktemp("genes")
    return folder, export.write_genes(folder, make_params(export={"genes": "int4"}), net, load_prepared(digits))


def test_the_files_of_genes_are_measured_on_all_test_images(written, net, digits):
    folder, metrics = written
    data, path = load_prepared(digits), folder / "genes.safetensors"
    x = data.meta.normalise(data.test.images)
    with torch.no_grad():
        found, expected = (n.eval()(x).mean(0).argmax(1) for n in (load(path), net))
    (logits,) = onnxruntime.InferenceSession(folder / "genes.onnx").run(None, {"images": x.contiguous().numpy()})
    assert metrics == {
        "genes_bytes": path.stat().st_size,
        "genes_accuracy": pytest.approx((found == data.test.labels).double().mean().item()),
        "genes_agreement": pytest.approx((found == expected).double().mean().item()),
        "fp32_accuracy": pytest.approx((expected == data.test.labels).double().mean().item()),
        "genes_onnx_bytes": (folder / "genes.onnx").stat().st_size,
        "genes_onnx_agreement": 1.0,
    }
    assert metrics["fp32_accuracy"] > 0.3
    assert (logits.argmax(1) == found.numpy()).mean() > 0.9
    assert metrics["genes_bytes"] < metrics["genes_onnx_bytes"]


def test_the_file_of_genes_says_what_the_onnx_files_card_says(written, digits, make_params):
    found = ModelCard.model_validate_json(json.dumps(read_card(written[0] / "genes.safetensors")))
    assert found == build_model_card(make_params(), load_prepared(digits).meta)


def test_without_onnx_there_is_the_file_of_genes_alone(net, digits, make_params, tmp_path):
    metrics = export.write_genes(tmp_path, make_params(export={"genes": "int8"}), net, load_prepared(digits), with_onnx=False)
    assert [path.name for path in tmp_path.iterdir()] == ["genes.safetensors"]
    assert set(metrics) == {"genes_bytes", "genes_accuracy", "genes_agreement", "fp32_accuracy"}


def test_the_stage_writes_the_files_of_genes_and_the_readme_names_them(in_project, trained, exported, written, monkeypatch):
    monkeypatch.setattr(export, "run", lambda *_: (exported.read_bytes(), {"agreement": 1.0}))
    monkeypatch.setattr(export, "to_onnx", lambda *_: exported.read_bytes())
    folder = in_project(export={"genes": "int4"})
    shutil.copytree(trained.parent, folder / "models/train")
    write_json(folder / "reports/evaluate/metrics.json", MEASURED)
    export.main()
    assert (folder / "models/export/genes.safetensors").read_bytes() == (written[0] / "genes.safetensors").read_bytes()
    assert (folder / "models/export/genes.onnx").is_file()
    metrics = json.loads((folder / "reports/export/metrics.json").read_text())
    assert metrics["genes_bytes"] == written[1]["genes_bytes"] and metrics["agreement"] == 1.0
    text = (folder / "models/export/README.md").read_text()
    assert f"in int4: {metrics['genes_bytes']:,} bytes, accuracy {metrics['genes_accuracy']:.2%} on the test images" in text


def test_an_own_network_that_torch_cannot_export_is_packed_as_its_checkpoint_and_not_registered(
    in_project, trained, monkeypatch, capsys
):
    def give_up(reason):
        raise ExportError(reason)

    told = []

    class Tracked:
        def __getattr__(self, name):
            return lambda *args, **kwargs: told.append(name)

    monkeypatch.setattr(export, "to_onnx", lambda *_: give_up("torch cannot export it (because)"))
    monkeypatch.setattr("pipelines.stage.open_tracker", lambda name, params: Tracked())
    folder = in_project()
    shutil.copytree(trained.parent, folder / "models/train")
    write_json(folder / "reports/evaluate/metrics.json", MEASURED)
    with pytest.raises(SystemExit):  # the table's networks can be exported, so it is a fault
        export.main()
    capsys.readouterr()
    monkeypatch.setattr(export, "is_own", lambda name: True)
    (folder / "models/export").mkdir()
    for name in ("network.onnx", "network.nir"):
        (folder / "models/export" / name).write_text("old")
    monkeypatch.setattr(export, "to_nir", lambda *_: give_up("it is no network of the table"))
    export.main()
    assert capsys.readouterr().err.splitlines() == [
        "export: no NIR: it is no network of the table",
        "export: no ONNX, and no model in MLflow: torch cannot export it (because)",
    ]
    packed = {path.name: path.read_bytes() for path in (folder / "models/export").iterdir()}
    assert set(packed) == {"network.safetensors", "network.json", "meta.json", "example.png"}
    assert packed["network.safetensors"] == trained.read_bytes()
    metrics = json.loads((folder / "reports/export/metrics.json").read_text())
    assert metrics == {"problem": "torch cannot export it (because)", "nir_problem": "it is no network of the table"}
    assert "model" not in told


def test_the_nir_graph_is_read_back_and_compared_on_the_test_images(net, digits, make_params, tmp_path):
    data = load_prepared(digits)
    metrics = export.write_network_nir(tmp_path / NIR.name, make_params(), net, data)
    assert (metrics["nir_agreement"], metrics["nir_bytes"]) == (1, (tmp_path / NIR.name).stat().st_size)
    assert 0.999 <= metrics["nir_spike_agreement"] <= 1
    assert read_nir(tmp_path / NIR.name).metadata["T"] == net.T


def test_a_network_that_nir_cannot_express_leaves_no_file_but_the_reason(digits, make_params, tmp_path):
    data = load_prepared(digits)
    soft = build_network("vgg16", 10, 1, 8, width=1 / 16, v_reset=None)
    (tmp_path / NIR.name).write_text("old")
    metrics = export.write_network_nir(tmp_path / NIR.name, make_params(), soft, data)
    assert list(metrics) == ["nir_problem"] and "NIR has no soft reset" in metrics["nir_problem"]
    assert list(tmp_path.iterdir()) == []


def test_an_own_network_is_registered_by_the_name_of_its_class(make_params, digits):
    params = make_params(network={"name": "networks.my_vgg:MyVGG"})
    assert registered_name(params, load_prepared(digits).meta) == "gee-digits-myvgg-g6"


def test_the_example_is_the_first_test_image(exported, digits):
    data = load_prepared(digits)
    np.testing.assert_array_equal(np.asarray(Image.open(exported.with_name("example.png"))), data.test.images[0, 0])
    shown = data.meta.class_names[int(data.test.labels[0])]
    assert f"a test image of class {shown}." in exported.with_name("README.md").read_text()


def test_the_readme_says_what_was_measured_on_what(exported, digits):
    text = exported.with_name("README.md").read_text().replace("\N{NO-BREAK SPACE}", " ")
    digest = load_prepared(digits).meta.digest
    said = [
        "# gee-digits-vgg16-g6",
        "grown from 6 genes",
        "| accuracy | 75.00% |",
        "5,000 (60,000 without genes)",
        "| 2 µJ; 50 µJ with",
    ]
    said += [digest, "64 training and 24 test images", "`ste` found in 2 × 3 candidates", "4 epochs with adamw"]
    said += ["`network.nir`", "at each of 2 steps"]
    assert [part for part in said if part not in text] == []


def test_a_readme_of_a_thousand_classes_is_short_enough_for_a_description_in_mlflow(make_params, digits):
    names = [f"{k} {'long' * 60}" for k in range(1000)]
    meta = load_prepared(digits).meta.model_copy(
        update={"class_names": tuple(names), "class_counts": (7,) * 1000, "num_classes": 1000}
    )
    measured = MEASURED | {"genes_bytes": 10**6, "genes_onnx_bytes": 10**6, "genes_accuracy": 0.7, "fp32_accuracy": 0.7}
    text = describe("gee", make_params(export={"genes": "int8"}), meta, measured, names[0], ["network.nir"])
    assert "and 980 more" in text and len(text) < 5000


def test_names_in_the_readme_are_text(make_params, digits):
    meta = load_prepared(digits).meta.model_copy(update={"class_names": ("<b>", "a\nb", "[x](y)", *"3456789"), "source": "`a*"})
    meta = meta.model_copy(update={"class_counts": (8, 2, *[4] * 8)})
    text = describe("gee", make_params(), meta, MEASURED, "<b>")
    assert r"Classes: \<b\>, a b, \[x\]\(y\), 3, 4" in text and r"(\`a\*)" in text and r"of class \<b\>." in text
    assert r"They are uneven: '\<b\>' has 8 training images, 4.0 times as many as 'a\\nb' with 2." in text


def test_the_readme_says_which_sizes_and_steps_training_saw(make_params, digits):
    params = make_params(train={"sizes": [6, 8], "T_schedule": [1, 2]})
    text = describe("gee", params, load_prepared(digits).meta, MEASURED, "1")
    assert "4 epochs, in turn of 6, 8 pixels, in turn of 1, 2 time steps with adamw" in text


def test_the_readme_of_a_network_that_started_at_fitted_genes_names_no_evolved_wiring(make_params, digits):
    params = make_params(train={"init_from": "inputs/plain.safetensors"})
    text = describe("gee", params, load_prepared(digits).meta, MEASURED, "1")
    assert "Training started at genes fitted to" in text and "wiring" not in text


def test_the_readme_says_how_fast_genes_learn_beside_the_rest(make_params, digits):
    def text(**train) -> str:
        return describe("net", make_params(train=train), load_prepared(digits).meta, MEASURED, "3")

    assert "learning rate 0.01, batches" in text(lr=0.01)
    assert "learning rate 0.01 (0.1 times that for O), batches" in text(lr=0.01, lr_O=0.1)
    assert "(2 times that for X and 0.1 times that for O)" in text(lr=0.01, lr_X=2, lr_O=0.1)
    assert "learning rate 0.01, falling in the last 40 % of the steps, batches" in text(lr=0.01, cooldown=0.4)


def test_the_readme_names_the_users_own_network_and_no_paper(make_params, digits):
    params = make_params(network={"name": "networks.my:VGG", "width": 0.5}, evolve={"genotype": "shared"})
    text = describe("gee", params, load_prepared(digits).meta, MEASURED, "1")
    assert "`networks.my:VGG` at width 0.5, 2 time steps" in text
    assert "the paper's channels" not in text


@pytest.mark.parametrize(
    ("dataset", "source", "n_genes", "name"),
    [
        ("cifar10", "data/raw/cifar10", 100, "gee-cifar10-vgg16-g100"),
        ("digits", "scikit-learn digits", None, "gee-digits-vgg16-plain"),
        ("cats-v1.2", "/data/My cats: v1.2/", 6, "gee-cats-v1.2-vgg16-g6"),
    ],
)
def test_a_registered_name_tells_dataset_network_and_genes(dataset, source, n_genes, name, make_params, digits):
    plain = {} if n_genes else {"evolve": {"variant": "analytic"}}
    params = make_params(network={"n_genes": n_genes}, **plain)
    meta = load_prepared(digits).meta.model_copy(update={"dataset": dataset, "source": source})
    assert registered_name(params, meta) == name


def test_export_knows_every_number_that_evaluate_measures_and_promotes_by_any_that_differs_between_models():
    assert set(Evaluation.model_fields) == set(MEASURED)
    assert set(get_args(PromoteMetric)) == set(MEASURED) - {"plain_parameters"}

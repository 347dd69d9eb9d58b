import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from gee_core.checkpoint import load
from gee_core.data.prepared import load_prepared
from gee_core.errors import ExportError
from gee_core.export.to_nir import read_nir
from gee_core.gene_file import read_card
from gee_core.model.network import build_network
from gee_core.storage.atomic_files import write_json
from pipelines import export
from pipelines.export import build_model_card, registered_name
from pipelines.inputs.loading import spaced
from pipelines.project.paths import NIR
from pipelines.runtime.run_files import all_records
from pipelines.runtime.run_folder import runs_root
from pipelines.tracking import publish
from tests.pipelines.conftest import MEASURED, SEARCHED, put_trained
from tests.project_copy import commit, make_repository, run


@pytest.fixture
def project(in_project, trained):
    """Makes a project folder with what export reads, and goes there."""

    def make(**sections) -> Path:
        folder = in_project(**sections)
        put_trained(folder, trained)
        write_json(folder / "reports/evaluate/metrics.json", MEASURED)
        write_json(folder / "reports/evolve/metrics.json", SEARCHED.model_dump())
        return folder

    return make


@pytest.fixture
def noted(monkeypatch):
    """The run.json of the stage."""
    monkeypatch.setenv("GEE_TRACKING", "on")
    monkeypatch.setattr(publish, "start", lambda owner: None)
    monkeypatch.setattr(publish, "wait", lambda run: (None, []))
    return lambda: next(record for record in all_records(runs_root()).values() if record.stage == "export")


def test_onnx_runtime_agrees_with_the_network_and_a_disagreement_would_show(net, exported, digits, monkeypatch):
    data, plain = load_prepared(digits), export.for_inference
    monkeypatch.setattr(export, "BATCH", 3)
    metrics = export.compare(model := exported.read_bytes(), net, data)
    x = data.meta.normalise(spaced(data.test, 8).images).contiguous()
    with torch.no_grad():
        expected = net(x).mean(0).numpy()
    (logits,) = onnxruntime.InferenceSession(model).run(None, {"images": x.numpy()})
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert metrics["max_abs_difference"] == pytest.approx(np.abs(logits - expected).max(), abs=1e-5)
    assert metrics["agreement"] == (logits.argmax(1) == expected.argmax(1)).mean() == 1.0

    def first_of_each_batch_differs(net):
        def answers(x):
            o_TBK = plain(net)(x).clone()
            o_TBK[:, 0] = o_TBK[:, 0].roll(1, -1)
            return o_TBK

        return answers

    monkeypatch.setattr(export, "for_inference", first_of_each_batch_differs)
    metrics = export.compare(model, net, data)
    assert metrics["max_abs_difference"] > 0.01 and metrics["agreement"] == 16 / 24  # of eight batches of 3
    monkeypatch.setattr(export, "for_inference", lambda net: lambda x: plain(net)(x) + 1)
    assert export.compare(model, net, data)["max_abs_difference"] == pytest.approx(1, abs=1e-4)


@pytest.fixture(scope="module")
def written(net, digits, make_params, tmp_path_factory):
    """(the folder with both files of genes, what was measured) of int4."""
    folder = tmp_path_factory.mktemp("genes")
    return folder, export.write_genes(folder, make_params(export={"genes": "int4"}), net, load_prepared(digits))


def test_the_files_of_genes_are_measured_on_all_test_images_and_hold_the_card(written, net, digits, make_params):
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
    assert read_card(path) == build_model_card(make_params(), data.meta).model_dump(mode="json")


def test_the_stage_writes_the_model_its_genes_its_card_and_its_metrics(project, noted, exported, written, monkeypatch):
    monkeypatch.setattr(export, "onnx_of", lambda *_: exported.read_bytes())  # equal networks give equal bytes: see the core
    folder = project(export={"genes": "int4"})
    export.main()
    out, data = folder / "models/export", load_prepared(folder / "data/prepared")
    for path in (path for path in exported.parent.iterdir() if path.name != "README.md"):
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert (out / "genes.safetensors").read_bytes() == (written[0] / "genes.safetensors").read_bytes()
    assert (out / "genes.onnx").is_file()
    np.testing.assert_array_equal(np.asarray(Image.open(out / "example.png")), data.test.images[0, 0])
    images = {"class_names": list("0123456789"), "in_channels": 1, "image_size": 8, "mean": [0.3], "std": [0.38]}
    assert json.loads((out / "meta.json").read_text()) == {"network": "vgg16", "n_genes": 6, "T": 2} | images
    metrics, text = json.loads((folder / "reports/export/metrics.json").read_text()), (out / "README.md").read_text()
    files = {"max_abs_difference", "agreement", "onnx_bytes", "nir_agreement", "nir_spike_agreement", "nir_bytes"}
    assert metrics.keys() == files | written[1].keys() and metrics["genes_bytes"] == written[1]["genes_bytes"]
    assert metrics["onnx_bytes"] == (out / "network.onnx").stat().st_size
    assert f"a test image of class {data.meta.class_names[int(data.test.labels[0])]}." in text
    assert f"in int4: {metrics['genes_bytes']:,} bytes, accuracy {metrics['genes_accuracy']:.2%} on the test images" in text
    model = noted().model
    assert (model.name, model.is_registered, model.dataset) == ("gee-digits-vgg16-g6", False, "digits")
    assert model.metrics == MEASURED | metrics
    assert noted().metrics == {}  # MLflow logs a model's on the run that logs the model
    assert model.params == {"network": "vgg16", "variant": "ste", "seed": "0", "n_genes": "6", "width": "0.0625", "T": "2"}
    assert model.digest == data.meta.digest


def test_an_own_network_that_torch_cannot_export_is_packed_as_its_checkpoint(project, noted, trained, monkeypatch, capsys):
    def give_up(reason):
        raise ExportError(reason)

    monkeypatch.setattr(export, "onnx_of", lambda *_: give_up("torch cannot export it (because)"))
    folder = project()
    with pytest.raises(SystemExit):  # the table's networks can be exported, so it is a fault
        export.main()
    capsys.readouterr()
    monkeypatch.setattr(export, "is_own", lambda name: True)
    (folder / "models/export").mkdir()
    for name in ("network.onnx", "network.nir"):
        (folder / "models/export" / name).write_text("old")
    monkeypatch.setattr(export, "to_nir", lambda *_: give_up("it is no network of the table"))
    export.main()
    assert capsys.readouterr().err == "export: no ONNX, and no model in MLflow: torch cannot export it (because)\n"
    packed = {path.name: path.read_bytes() for path in (folder / "models/export").iterdir()}
    assert set(packed) == {"network.safetensors", "network.json", "meta.json", "example.png"}
    assert packed["network.safetensors"] == trained.read_bytes()
    metrics = json.loads((folder / "reports/export/metrics.json").read_text())
    assert metrics == {"problem": "torch cannot export it (because)", "nir_problem": "it is no network of the table"}
    assert noted().model is None


def test_the_nir_graph_is_read_back_and_compared_or_leaves_a_reason(net, digits, make_params, tmp_path):
    file, params, data = tmp_path / NIR.name, make_params(), load_prepared(digits)
    metrics = export.write_network_nir(file, params, net, data)
    assert (metrics["nir_agreement"], metrics["nir_bytes"]) == (1, file.stat().st_size)
    assert 0.999 <= metrics["nir_spike_agreement"] <= 1
    assert read_nir(file).metadata["T"] == net.T
    metrics = export.write_network_nir(file, params, build_network("vgg16", 10, 1, 8, width=1 / 16, v_reset=None), data)
    assert list(metrics) == ["nir_problem"] and "NIR has no soft reset" in metrics["nir_problem"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dataset", "network", "n_genes", "searched", "name"),
    [
        ("digits", "vgg16", None, None, "gee-digits-vgg16-plain"),
        ("cats-v1.2", "vgg16", 6, "wiring", "gee-cats-v1.2-vgg16-g6"),
        ("digits", "networks.my_vgg:MyVGG", 6, "shape", "gee-digits-myvgg-g6"),
        ("digits", "vgg16", 6, "n_genes", "gee-digits-vgg16"),
    ],
)
def test_a_registered_name_tells_dataset_network_and_genes(dataset, network, n_genes, searched, name, make_params, digits):
    evolution = {"genes": [searched]} if searched else {"variant": "analytic"}
    params = make_params(network={"name": network, "n_genes": n_genes}, evolve=evolution)
    assert registered_name(params, load_prepared(digits).meta.model_copy(update={"dataset": dataset})) == name


STAGE = {
    "cmd": "python -m pipelines.export",
    "deps": ["data/prepared", "models/train", "reports/evaluate/metrics.json"],
    "params": ["network", "export"],
    "outs": ["models/export"],
    "metrics": ["reports/export/metrics.json"],
}


@pytest.mark.slow
def test_the_model_of_an_experiment_in_a_copy_is_registered_in_the_project(project):
    from pipelines.tracking.mlflow_client import connect

    folder = project(export={"register_model": True})
    with (folder / "dvc.yaml").open("w") as file:
        YAML().dump({"stages": {"export": STAGE}}, file)
    (folder / ".gitignore").write_text("/mlflow.db\n/mlartifacts\n/.scratch\n")
    make_repository(folder)
    run(folder, sys.executable, "-m", "dvc", "init", "-q")
    commit(folder, "project")
    run(folder, sys.executable, "-m", "dvc", "exp", "run", "--temp", "-S", "export.genes=int8", GEE_TRACKING="on")
    run(folder, sys.executable, "-m", "pipelines.cli", "track", "replay")  # DVC does not wait for MLflow
    (version,) = connect(f"sqlite:///{folder}/mlflow.db").search_model_versions("name = 'gee-digits-vgg16-g6'")
    assert version.tags["gee.first_alias"] == "champion"
    source = Path(version.source.removeprefix("file://"))
    assert (source / "MLmodel").is_file() and source.is_relative_to(folder / "mlartifacts")

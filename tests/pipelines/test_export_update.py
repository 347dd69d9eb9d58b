"""Updates through the stages: trained from a base, exported, measured, kept by the flow, ranked, used by `gee predict`."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import gee_core
from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.gene_file import save_genes
from gee_core.storage.atomic_files import write_json
from pipelines import export, train
from pipelines.commands.prediction import open_model
from pipelines.inputs.init_from import encoded_network, init_from_files
from pipelines.inputs.measured import Exported
from pipelines.project.paths import CHECKPOINT, IN_USE, UPDATE
from pipelines.runtime.run_files import ExportedModel
from pipelines.tracking.mlflow_models import rank
from tests.pipelines.conftest import MEASURED, SEARCHED
from tests.pipelines.test_train_stage import write_genotype

BASE = Path("inputs/base.safetensors")
ADAPT = {"init_from": str(BASE), "parts": ["O", "norm"], "norm_images": 16, "epochs": 2, "include_holdout": False}


@pytest.fixture
def project(in_project, net, meta, make_params):
    """Makes a project whose base is a file of genes, and goes there."""

    def make(**changes) -> Path:
        folder = in_project(evolve={"variant": "analytic"}, train=ADAPT | changes, export={"genes": "int8"})
        (folder / "inputs").mkdir()
        save_genes(folder / BASE, net, "int8", export.build_model_card(make_params(), meta).model_dump(mode="json"))
        write_genotype(folder)
        write_json(folder / "reports/evaluate/metrics.json", MEASURED)
        write_json(folder / "reports/evolve/metrics.json", SEARCHED.model_dump())
        return folder

    return make


def test_train_and_export_make_an_update_whose_file_alone_was_measured(project, meta, digits):
    folder = project()
    train.main()
    trained, base = gee_core.load(CHECKPOINT), gee_core.load_genes(BASE)
    moved = {name for name, x in trained.state_dict().items() if not torch.equal(x, base.state_dict()[name])}
    assert "genome.O" in moved and all(name == "genome.O" or ".norm." in name for name in moved)
    export.main()
    exported = json.loads((folder / "reports/export/metrics.json").read_text())
    assert exported["update_bytes"] == UPDATE.stat().st_size and "former_holdout_accuracy" not in exported
    data, net = load_prepared(digits), gee_core.load_genes(BASE, update=UPDATE).eval()
    for images, name in ((data.test, "update_accuracy"), (data.holdout_images(), "update_holdout_accuracy")):
        with torch.no_grad():
            right = net(meta.normalise(images.images)).mean(0).argmax(1) == images.labels
        assert exported[name] == pytest.approx(right.double().mean().item())
    answers = open_model(BASE, update=UPDATE).classify(data.test.images.numpy())[0]
    with torch.no_grad():
        expected = net(meta.normalise(data.test.images)).mean(0).softmax(1)
    torch.testing.assert_close(torch.from_numpy(answers), expected, atol=1e-3, rtol=1e-2)


def test_export_compares_with_the_update_in_use_and_the_flow_keeps_the_better(project, monkeypatch):
    flow = pytest.importorskip("pipelines.orchestration.flow")
    project()
    flow.keep_better_update()  # before there is one
    train.main()
    export.main()
    flow.keep_better_update()
    assert IN_USE.read_bytes() == UPDATE.read_bytes()
    export.main()
    measured = Exported.model_validate_json(Path("reports/export/metrics.json").read_text())
    assert measured.former_holdout_accuracy == measured.update_holdout_accuracy and not measured.has_better_update
    IN_USE.write_bytes(b"former")
    flow.keep_better_update()
    assert IN_USE.read_bytes() == b"former"
    better = measured.model_copy(update={"update_holdout_accuracy": 1.0, "former_holdout_accuracy": 0.9})
    monkeypatch.setattr(flow, "read_metrics", lambda *_: better)
    flow.keep_better_update()
    assert IN_USE.read_bytes() == UPDATE.read_bytes()


def test_a_base_that_does_not_fit_the_images_is_refused_before_training(project, make_params, meta):
    project()
    params = make_params(evolve={"variant": "analytic"}, train=ADAPT)
    assert init_from_files(params) == [BASE]
    with pytest.raises(InputError, match=r"base.safetensors: it and its updates take 8 pixels a side, not 16: set prepare.im"):
        encoded_network(params, meta.model_copy(update={"image_size": 16}))
    fewer = meta.model_copy(update={"class_names": ("even", "odd"), "num_classes": 2})
    with pytest.raises(
        InputError, match=r"even, odd are not the classes of inputs/base.safetensors, 0, 1, .*add head to parts"
    ):
        encoded_network(params, fewer)
    with_head = make_params(evolve={"variant": "analytic"}, train=ADAPT | {"parts": ["head", "norm"]})
    assert encoded_network(with_head, fewer)[0].built_with.num_classes == 2
    shutil.copy("data/prepared/meta.json", BASE.with_suffix(".json"))  # whatever lies beside it
    assert init_from_files(params) == [BASE]
    gee_core.save("inputs/net.safetensors", gee_core.load_genes(BASE))
    with pytest.raises(InputError, match=r"inputs/net.safetensors has no genes, of which an update could be a part: name a f"):
        init_from_files(make_params(evolve={"variant": "analytic"}, train=ADAPT | {"init_from": "inputs/net.safetensors"}))
    save_genes(BASE, gee_core.load_genes(BASE), card={"classes": []})
    with pytest.raises(InputError, match=r"base.safetensors: its card does not describe the images \(lacks class_names, "):
        encoded_network(params, meta)


def test_an_update_is_for_a_file_of_genes_alone(exported, tmp_path):
    with pytest.raises(InputError, match=r"--update .*a.update: .*network.onnx is no file of genes: give --pretrained a name"):
        open_model(exported, update=tmp_path / "a.update")


def test_updates_are_ranked_by_the_hold_out(make_params):
    def model(**metrics) -> ExportedModel:
        return ExportedModel(name="m", is_registered=True, dataset="d", digest="d", metrics=metrics, params={}, time=2)

    class Champion:
        version = "1"
        tags = {"gee.dataset_digest": "d", "gee.tracked": "1", "gee.metrics": '{"update_holdout_accuracy": 0.5}'}  # noqa: RUF012

    assert rank(model(test_accuracy=0.1, update_holdout_accuracy=0.6), Champion())[0] == "champion"
    assert rank(model(test_accuracy=0.9, update_holdout_accuracy=0.4), Champion())[0] == "challenger"

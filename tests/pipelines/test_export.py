import json
import shutil

import numpy as np
import pytest
import torch

from gee_core.data.prepared import load_prepared
from pipelines import export
from pipelines.inputs.trained_network import load_trained


@pytest.fixture(scope="module")
def results(digits, make_params, trained):
    """(network, what ``run`` gave for it)."""
    params, data = make_params(), load_prepared(digits)
    net = load_trained(params, data.meta, trained)
    return net, export.run(params, net, data)


def test_onnx_runtime_agrees_with_the_network_with_its_genes(results, digits):
    net, (model, metrics, x, logits) = results
    data = load_prepared(digits)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).mean(0).numpy()
    np.testing.assert_array_equal(x, data.meta.normalise(data.test.images[:8]).numpy())
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert metrics["max_abs_difference"] == pytest.approx(np.abs(logits - expected).max(), abs=1e-5)
    assert metrics["agreement"] == (logits.argmax(1) == expected.argmax(1)).mean() == 1.0
    assert metrics["onnx_bytes"] == len(model)


def test_a_disagreement_would_show(results, digits, make_params, monkeypatch):
    net, (model, *_) = results
    monkeypatch.setattr(export, "to_onnx", lambda *_: model)

    class Shifted(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x).roll(1, -1)

    monkeypatch.setattr(export, "for_inference", lambda net: Shifted(net))
    _, metrics, *_ = export.run(make_params(), net, load_prepared(digits))
    assert metrics["max_abs_difference"] > 0.01
    assert metrics["agreement"] < 1


def test_the_stage_writes_the_model_what_a_user_must_know_and_its_metrics(in_project, trained, results, monkeypatch):
    _, (model, metrics, *_) = results
    monkeypatch.setattr(export, "to_onnx", lambda *_: model)  # that equal networks give equal bytes is tested in the core
    told = []

    class Tracked:
        def __getattr__(self, name):
            return lambda *args, **kwargs: told.append((name, args))

    monkeypatch.setattr("pipelines.stage.open_tracker", lambda name, params: Tracked())
    folder = in_project()
    shutil.copytree(trained.parent, folder / "models/train")
    export.main()
    assert (folder / "models/export/network.onnx").read_bytes() == model
    card = json.loads((folder / "models/export/meta.json").read_text())
    assert card == {
        "network": "vgg16",
        "n_genes": 6,
        "class_names": list("0123456789"),
        "in_channels": 1,
        "image_size": 8,
        "mean": [0.3],
        "std": [0.38],
    }
    assert json.loads((folder / "reports/export/metrics.json").read_text()) == metrics
    (registered,) = [args for name, args in told if name == "model"]
    assert registered[3:] == ("gee-digits-vgg16", False)

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from gee_core.data.prepared import load_prepared
from gee_core.evaluation.energy import firing_rates, measure_energy
from gee_core.genome.encoding import genome_of
from gee_core.model.base import with_steps
from gee_core.model.wired import wired_network
from pipelines import evaluate
from pipelines.evaluate import IMAGES, MISTAKES, NEURONS
from pipelines.inputs.measured import MEASURES
from tests.pipelines.conftest import CPU, put_trained

LAYERS = "layer kind input_rate binary macs energy_mj decode_macs decode_energy_mj output_rate"


@pytest.fixture(scope="module")
def results(digits, make_params, net):
    return measured(make_params(), net, load_prepared(digits))


def measured(*arguments):
    """The metrics of ``evaluate.run``, and its two tables as frames."""
    metrics, layers, images = evaluate.run(*arguments, CPU)
    return metrics.model_dump(), pd.DataFrame(layers), pd.DataFrame(images)


def test_accuracy_and_loss_are_those_of_the_network_on_all_test_images(net, results, digits):
    metrics, _, images = results
    data = load_prepared(digits)
    with torch.no_grad():
        logits = net(data.meta.normalise(data.test.images)).mean(0)
    assert images.actual.tolist() == [str(k) for k in data.test.labels.tolist()]
    assert images.predicted.tolist() == [str(k) for k in logits.argmax(1).tolist()]
    assert metrics["test_accuracy"] == (images.actual == images.predicted).mean()
    assert metrics["test_loss"] == pytest.approx(F.cross_entropy(logits, data.test.labels).item(), rel=1e-5)
    assert 0.1 < metrics["test_accuracy"] < 1  # it has learnt something, and not all


def test_spikes_and_energy_are_those_of_the_network_with_its_genes(net, results, digits):
    metrics, layers, _ = results
    data = load_prepared(digits)
    activity = measure_energy(net, [data.meta.normalise(data.test.images)])
    assert metrics["spikes_per_image"] == pytest.approx(activity.spikes_per_image, rel=1e-3)
    assert metrics["firing_rate"] == pytest.approx(activity.firing_rate, rel=1e-3)
    assert metrics["energy_mj"] == pytest.approx(activity.energy_mj(4.6, 0.9), rel=1e-3)
    assert metrics["energy_with_decoding_mj"] == pytest.approx(activity.energy_with_decoding_mj(4.6, 0.9), rel=1e-3)
    assert metrics["energy_of_sums_mj"] == activity.energy_of_sums_mj(0.9) == 0  # CIFARNet has no residual blocks
    assert layers.layer.tolist() == [layer.layer for layer in activity.layers]
    assert layers.decode_macs.tolist() == [layer.decode_macs for layer in activity.layers]
    assert layers.decode_macs[layers.decode_macs > 0].tolist() == genome_of(net).decode_macs()
    assert 0 < metrics["firing_rate"] < 1
    operations = {key: metrics[key] for key in ("effective_macs", "effective_acs", "dense_synops")}
    assert list(operations.values()) == pytest.approx(list(activity.neurobench()["synaptic_operations"].values()), rel=1e-3)
    assert metrics["activation_sparsity"] == pytest.approx(1 - metrics["firing_rate"])
    assert metrics["connection_sparsity"] == activity.connection_sparsity
    assert metrics["footprint"] > 4 * metrics["parameters"]  # and batch norm's buffers
    assert metrics["footprint_decoded"] - metrics["footprint"] == 4 * (metrics["plain_parameters"] - metrics["parameters"])


def test_batches_change_no_number_and_energies_are_the_configured_ones(net, results, digits, make_params):
    metrics, layers, _ = results
    doubled = make_params(evaluate={"batch_size": 24, "e_mac": 9.2, "e_ac": 1.8})
    others, other_layers, _ = measured(doubled, net, load_prepared(digits))
    twice = {key: 2 * value if key.startswith("energy") else value for key, value in metrics.items()}
    assert others == pytest.approx(twice, rel=1e-6)
    assert other_layers.energy_mj.sum() == pytest.approx(2 * layers.energy_mj.sum()) == pytest.approx(others["energy_mj"])


def test_a_plain_network_has_nothing_to_decode_and_is_its_own_comparison(digits, make_params):
    params = make_params(network={"n_genes": None}, evolve={"variant": "analytic"})
    data = load_prepared(digits)
    metrics, layers, _ = measured(params, wired_network(params.network, data.meta, None, 0).eval(), data)
    assert metrics["energy_with_decoding_mj"] == metrics["energy_mj"] > 0
    assert metrics["parameters"] == metrics["plain_parameters"]
    assert layers.decode_macs.sum() == 0


def test_early_exit_gives_accuracy_steps_and_energy_by_confidence(net, results, digits, make_params):
    data = load_prepared(digits)
    first, some, last = evaluate.run_exits(make_params(evaluate={"exit": [0.0, 0.5, 1.0], "batch_size": 24}), net, data, CPU)
    assert (last["mean_steps"], last["accuracy"]) == (net.T, results[0]["test_accuracy"])
    assert last["energy_mj"] == pytest.approx(results[0]["energy_mj"])
    x = data.meta.normalise(data.test.images)
    with torch.no_grad(), with_steps(net, 1):
        assert first["accuracy"] == (net(x)[0].argmax(1) == data.test.labels).double().mean().item()
        assert (first["mean_steps"], first["energy_mj"]) == (1, pytest.approx(measure_energy(net, x).energy_mj(4.6, 0.9)))
    assert 1 < some["mean_steps"] < net.T
    assert first["energy_mj"] < some["energy_mj"] < last["energy_mj"]
    assert evaluate.run_exits(make_params(), net, data, CPU) == []


def test_the_stage_writes_its_files(in_project, trained, results):
    folder = in_project()
    put_trained(folder, trained)
    evaluate.main()
    out = folder / "reports/evaluate"
    metrics, layers, images = results
    files = {"confusion.csv", "exit.csv", "layers.csv", "metrics.json", "shown.json"}
    assert {path.name for path in out.iterdir()} == files
    assert list(json.loads((out / "metrics.json").read_text())) == list(MEASURES)
    assert json.loads((out / "metrics.json").read_text()) == metrics
    written = pd.read_csv(out / "layers.csv")
    assert list(written) == LAYERS.split()
    pd.testing.assert_frame_equal(written, layers, check_dtype=False)
    assert set(written.kind) == {"conv", "fc"}
    assert written.output_rate.isna().tolist() == [False] * (len(written) - 1) + [True]
    confusion = pd.read_csv(out / "confusion.csv", dtype=str)
    assert list(confusion) == ["actual", "predicted"]
    assert (confusion.to_numpy() == images.to_numpy()).all()


@pytest.fixture(scope="module")
def found(net, results, digits):
    """(images, answers on them, what is shown of these)."""
    data, answers = load_prepared(digits), results[2].to_dict("records")
    return data, answers, evaluate.show(net, data, answers, CPU)


def test_the_answers_are_those_of_the_network_mistakes_first(found, net):
    data, answers, shown = found
    wrong = [answer.actual != answer.predicted for answer in shown.answers]
    n_mistakes = sum(row["actual"] != row["predicted"] for row in answers)
    assert len(wrong) == IMAGES and wrong == sorted(wrong, reverse=True) and sum(wrong) == min(MISTAKES, n_mistakes) > 0
    with torch.no_grad():
        p_BK = net(data.meta.normalise(data.test.images)).mean(0).softmax(1)
    for answer in shown.answers:
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.picture))))
        (index,) = [i for i, image in enumerate(data.test.images) if (image[0].numpy() == picture).all()][:1]
        assert answers[index] == {"actual": answer.actual, "predicted": answer.predicted}
        assert answer.probability == pytest.approx(p_BK[index].max().item(), abs=1e-3)


def test_the_spikes_are_those_of_evenly_spaced_neurons_of_every_layer(found, net, monkeypatch):
    data, answers, shown = found
    assert torch.__version__ in shown.machine and shown.machine.endswith("float32")
    assert all(len(rows) <= NEURONS and {len(row) for row in rows} == {net.T} for rows in shown.spikes.values())
    monkeypatch.setattr("pipelines.evaluate.NEURONS", 10**9)
    everything = evaluate.show(net, data, answers, CPU)
    right = [i for i, row in enumerate(answers) if row["actual"] == row["predicted"]]
    rates = firing_rates(net, data.meta.normalise(data.test.images[right[-1:]]))
    assert list(rates) == list(everything.spikes)
    for layer, rows in everything.spikes.items():
        assert np.mean(rows) == pytest.approx(rates[layer])


def test_the_maps_are_the_genes_and_the_weight_at_the_middle_of_the_kernel(found, net):
    maps = found[2].maps
    name = next(key for key in maps if key.startswith("W"))
    conv, genome = net.conv_chain()[int(name[2:])], genome_of(net)
    assert np.allclose(maps["O"], genome.O.detach(), rtol=5e-3)
    assert np.allclose(maps[name], conv.weight[:64, :64, 1, 1].detach(), rtol=5e-3)
    X_before = genome.encodings()[int(name[2:]) - 1][4].detach().numpy()
    product = np.array(maps[f"X_{name[2:]}"]) @ genome.O.detach().numpy() @ X_before.T
    assert np.allclose(product[:, : len(maps[name][0])], maps[name], atol=0.02 * np.abs(maps[name]).max())

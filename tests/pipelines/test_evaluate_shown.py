"""What evaluate writes for the report to show: answers on test images, one image's spikes, and genes as maps."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from gee_core.compute import Compute
from gee_core.data.prepared import load_prepared
from gee_core.evaluation.energy import firing_rates
from gee_core.genome.encoding import genome_of
from pipelines import evaluate
from pipelines.evaluate import IMAGES, MISTAKES, NEURONS, show

COMPUTE = Compute(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def found(net, digits, make_params):
    """(images, answers on them, what is shown of these)."""
    data = load_prepared(digits)
    _, _, answers = evaluate.run(make_params(), net, data)
    return data, answers, show(net, data, answers, COMPUTE)


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
    assert all(len(rows) <= NEURONS and {len(row) for row in rows} == {net.T} for rows in shown.spikes.values())
    monkeypatch.setattr("pipelines.evaluate.NEURONS", 10**9)
    everything = show(net, data, answers, COMPUTE)
    right = [i for i, row in enumerate(answers) if row["actual"] == row["predicted"]]
    rates = firing_rates(net, data.meta.normalise(data.test.images[right[-1:]]))
    assert list(rates) == list(everything.spikes)
    for layer, rows in everything.spikes.items():
        assert "".join(rows).count("1") / (len(rows) * net.T) == pytest.approx(rates[layer])


def test_the_maps_are_the_genes_and_the_weight_at_the_middle_of_the_kernel(found, net):
    maps = found[2].maps
    name = next(key for key in maps if key.startswith("W"))
    conv, genome = net.conv_chain()[int(name[2:])], genome_of(net)
    assert np.allclose(maps["O"], genome.O.detach(), rtol=5e-3)
    assert np.allclose(maps[name], conv.weight[:64, :64, 1, 1].detach(), rtol=5e-3)
    X_before = genome.encodings()[int(name[2:]) - 1][4].detach().numpy()
    product = np.array(maps[f"X_{name[2:]}"]) @ genome.O.detach().numpy() @ X_before.T
    assert np.allclose(product[:, : len(maps[name][0])], maps[name], atol=0.02 * np.abs(maps[name]).max())


def test_the_file_is_small_and_says_what_measured(found):
    shown = found[2]
    assert len(shown.model_dump_json()) < 200_000
    assert torch.__version__ in shown.machine and shown.machine.endswith("float32")

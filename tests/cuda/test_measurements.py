"""What is computed around training agrees with the CPU: weights from genes, ONNX, energy, noise, defects, candidates."""

import pytest
import torch

from gee_core.config.params import DOMAINS
from gee_core.data.prepared import Source, write_prepared
from gee_core.evaluation.energy import measure_energy
from gee_core.evaluation.hardware_noise import OF_GENES, OF_WEIGHTS, disturb, encoded_weights
from gee_core.evolution import proxy
from gee_core.evolution.candidate import ProxyTask
from gee_core.evolution.proxy import score
from gee_core.genome.encoding import decode
from tests.cuda.runs import CLASSES, NORMALISE, images, network
from tests.gee_core.evolution.proxy_task import BASE, EVOLVE, NETWORK, PROXY, candidate
from tests.gee_core.lively import awake

OF_SPIKES = tuple(domain for domain in DOMAINS if domain not in (*OF_GENES, *OF_WEIGHTS))
STRENGTHS = {"lost_step": 1.0}
TOO_MUCH = 2**50
"""Bytes that no machine has."""


def batch(n=64):
    return NORMALISE(images(n).images)


@pytest.fixture(scope="module")
def nets(device):
    """The same network on the CPU and on the device; its neurons fire, though not all of them."""
    return tuple(awake(network().to("cpu"), batch()).to(where) for where in ("cpu", device))


@torch.no_grad()
def answers(net, x):
    return net(x.to(next(net.parameters()).device)).mean(0).cpu()


def agree(a, b, share=0.9, atol=1e-3):
    """Whether the answers to ``share`` of the images agree: one spike that rounding moved changes all numbers of an image."""
    return ((a - b).abs().amax(1) < atol).float().mean() >= share


def test_decoded_weights_are_those_of_the_cpu(nets, device):
    here, there = (decode(net).state_dict() for net in nets)
    assert here.keys() == there.keys()
    assert all(t.device.type == device.type for t in there.values())
    for name, value in here.items():
        torch.testing.assert_close(there[name].cpu(), value, rtol=1e-5, atol=1e-6)


def test_counts_and_energy_are_those_of_the_cpu(nets, device):
    """Operations equal; rates and energy within a hundredth."""
    here, there = (measure_energy(net, batch().to(where)) for net, where in zip(nets, ("cpu", device), strict=True))
    for a, b in zip(here.layers, there.layers, strict=True):
        assert (a.layer, a.macs, a.steps, a.dense, a.binary) == (b.layer, b.macs, b.steps, b.dense, b.binary)
        assert b.input_rate == pytest.approx(a.input_rate, rel=0.01)
    assert there.energy_mj(4.6, 0.9) == pytest.approx(here.energy_mj(4.6, 0.9), rel=0.01)
    assert here.spikes_per_image > 0
    assert there.effective_acs == pytest.approx(here.effective_acs, rel=0.01)


@pytest.mark.parametrize("domain", [*OF_GENES, *OF_WEIGHTS])
def test_defects_of_genes_and_weights_are_those_of_the_cpu(domain, nets):
    """But for a weight in a thousand, which lies between two codes of int8 until rounding."""
    here, there = (encoded_weights(disturb(net, domain, 0.05, seed=1)) for net in nets)
    before = encoded_weights(decode(nets[0]))
    assert here.keys() == there.keys() == before.keys()
    for name, W in here.items():
        assert ((there[name].cpu() - W).abs() > 1e-5 * W.abs().max()).float().mean() <= 1e-3
        assert not torch.equal(W, before[name])


@pytest.mark.parametrize("domain", OF_SPIKES)
def test_defects_of_neurons_are_those_of_the_cpu(domain, nets):
    clean, x = answers(nets[0], batch()), batch()
    assert clean.std() > 1e-2 and agree(answers(nets[1], x), clean)
    here, there = (answers(disturb(net, domain, STRENGTHS.get(domain, 0.05), seed=1), x) for net in nets)
    assert agree(here, there)
    assert not agree(here, clean)


@pytest.fixture(scope="module")
def task(device, tmp_path_factory):
    """A candidate's task on 96 images."""
    folder = tmp_path_factory.mktemp("data") / "prepared"
    source = Source("none", tuple(map(str, range(CLASSES))), images(), images(24, seed=1), torch.arange(0, 96, 4))
    write_prepared(folder, "folder", source, NORMALISE.mean, NORMALISE.std)
    evolve = EVOLVE.model_copy(update={"proxy": PROXY.model_copy(update={"epochs": 1, "batch_size": 24})})
    return ProxyTask(folder, BASE.model_copy(update={"device": str(device)}), NETWORK, evolve)


def test_a_candidate_that_runs_out_of_memory_fails_alone(task, device, monkeypatch):
    """Its score is a failure with torch's reason, and the next candidate is scored as before: `score`'s docstring."""
    before = score(task, candidate())
    assert before.status == "ok"

    def allocate(*_):
        torch.empty(TOO_MUCH, dtype=torch.uint8, device=device)

    with monkeypatch.context() as patch:
        patch.setattr(proxy, "train_epoch", allocate)
        found = score(task, candidate())
    assert found.status.startswith("failed: OutOfMemoryError: " if device.type == "cuda" else "failed: RuntimeError: ")
    assert found.L_ce != found.L_ce  # NaN: ranked last
    after = score(task, candidate())
    assert after.status == "ok"
    assert abs(after.TSE - before.TSE) <= 0.05 * before.TSE

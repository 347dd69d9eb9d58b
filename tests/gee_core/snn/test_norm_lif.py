"""Batch norm, sum and LIF fused == the three modules one after the other == SpikingJelly; gradients by differences."""

import copy
import shutil

import pytest
import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn

from gee_core.snn import kernels, norm_lif
from gee_core.snn.dynamics import Dynamics, lif_gradients, lif_spikes
from gee_core.snn.lif import ILIF, LIF
from gee_core.snn.norm_lif import NormLIF, add_stream

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
T, B, C, H, W = 4, 3, 5, 6, 4
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")


def draw(rows, seed=0, dtype=torch.float32, mean=0.3, channels=C):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, channels, H, W, generator=generator) * 2 + mean
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


NEURONS = {"lif": LIF(T), "ilif": ILIF(T, levels=3, v_threshold=0.7)}


def lively(seed=0, neuron="lif"):
    """A layer whose norm does something in every one of its numbers."""
    module = NormLIF(C, copy.deepcopy(NEURONS[neuron]))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (module.norm.weight, module.norm.bias, module.norm.running_mean, module.norm.running_var):
            tensor.copy_(torch.rand(C, generator=generator) + 0.5)
    return module


@pytest.fixture
def fused(monkeypatch):
    """Every size takes the fused loops; ``eager`` runs them as they stand, for the arithmetic alone."""

    def switch_on(eager):
        monkeypatch.setattr(kernels, "WORTH_COMPILING", 0)
        monkeypatch.setattr(kernels, "_compiles", [True])
        if eager:
            monkeypatch.setattr(kernels, "_compiled", lambda loop, on_gpu: loop)

    return switch_on


def both(monkeypatch, call, dtype=torch.float32, neuron="lif"):
    """(results, gradients, norm's buffers) of an entry of ``CALLS``, fused and as separate modules."""
    function, *rows = CALLS[call]
    results = []
    for compiles in (True, False):
        monkeypatch.setattr(kernels, "_compiles", [compiles])
        m = lively(neuron=neuron).train()
        inputs = [draw(n, seed, dtype).requires_grad_() for seed, n in enumerate(rows, 1)]
        outputs = function(m, *inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)  # (sum, spikes), or spikes
        torch.autograd.backward(outputs, [draw(T * B, 3 + i, t.dtype) for i, t in enumerate(outputs)])
        results.append(([t.detach() for t in outputs], [t.grad for t in [*inputs, *m.parameters()]], list(m.norm.buffers())))
    return results


CALLS = {
    "plain": (lambda m, x: m(x), T * B),
    "residual": (lambda m, x, r: m(x, r), T * B, T * B),
    "repeated": (lambda m, x: m.repeated(x), B),
    "repeated, not trained": (lambda m, x: m.repeated(x.detach()), B),
    "summed": (lambda m, x, s: m.summed(x, s), T * B, T * B),
    "summed, first": (lambda m, x, s: m.summed(x, s), T * B, B),
}


@pytest.mark.parametrize(
    ("call", "eager"),
    [*((call, True) for call in CALLS), pytest.param("summed, first", False, marks=[needs_compiler, pytest.mark.slow])],
)
@pytest.mark.parametrize("neuron", NEURONS)
def test_fused_equals_the_separate_modules(call, eager, neuron, fused, monkeypatch):
    fused(eager)
    ours, reference = both(monkeypatch, call, neuron=neuron)
    for a, b in zip(ours[0], reference[0], strict=True):
        assert torch.equal(a, b)
        assert a.is_contiguous(memory_format=torch.channels_last)
    assert 0.1 < ours[0][-1].mean() < (0.9 if neuron == "lif" else 2)
    for a, b in zip(ours[1] + ours[2], reference[1] + reference[2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("call", ["residual", "summed", "summed, first"])
def test_fused_in_bf16_differs_by_its_rounding_alone(call, fused, monkeypatch):
    """The modules round the norm's output to bf16 before the neurons see it (relative 2⁻⁹), the fused loops do not."""
    fused(eager=True)
    ours, reference = both(monkeypatch, call, torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(ours[0][:-1], reference[0][:-1], strict=True))  # the sum, rounded once
    assert (ours[0][-1] != reference[0][-1]).float().mean() < 0.02
    for a, b in zip(ours[1], reference[1], strict=True):
        assert a.dtype == b.dtype
        assert (a.float() - b.float()).norm() < 0.1 * b.float().norm()
    for a, b in zip(ours[2], reference[2], strict=True):  # the statistics are those of the rounded sum
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)


TRIANGLE = surrogate.PiecewiseQuadratic(alpha=2.0)
SPIKINGJELLYS = {
    "lif": neuron.LIFNode(2.0, v_threshold=0.5, v_reset=0.0, detach_reset=True, surrogate_function=TRIANGLE, step_mode="m"),
    "ilif": neuron.ILIFNode(4 / 3, 0.7, surrogate.MultiLevelSpikeCount(3), step_mode="m"),
}


@pytest.mark.parametrize("kind", NEURONS)
def test_fused_equals_spikingjellys_multi_step_layers(kind, fused):
    fused(eager=True)
    module = lively(neuron=kind).train()
    norm, node = layer.BatchNorm2d(C, step_mode="m"), copy.deepcopy(SPIKINGJELLYS[kind])
    norm.load_state_dict(module.norm.state_dict())
    x, grad = draw(T * B, 1), draw(T * B, 3)
    y, z = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours, theirs = module(y), node(norm(z.unflatten(0, (T, B)))).flatten(0, 1)
    assert torch.equal(ours, theirs)
    ours.backward(grad)
    theirs.backward(grad)
    torch.testing.assert_close(y.grad, z.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(module.norm.weight.grad, norm.weight.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lif", [(2.0, True, 0.5, 2.0), (2.0, True, 40.0, 0.02)], ids=["T = 1", "T = 2, nothing fires"])
def test_the_gradient_is_the_finite_difference_of_the_primitive_in_float64(lif):
    """Without a reset the surrogate gradient is the true one of its primitive: at T = 1, or where no neuron fires."""
    steps = 1 if lif[2] < 1 else 2
    tau, _, v_threshold, alpha = lif
    primitive = surrogate.PiecewiseQuadratic(alpha=alpha, spiking=False)
    weight, bias = torch.rand(C, generator=torch.Generator().manual_seed(0)).double() + 0.5, torch.rand(C).double()
    inputs = [draw(steps * B, 1).double() * 0.3, weight, bias, draw(steps * B, 2).double() * 0.3]  # x, weight, bias, residual
    grad_s = draw(steps * B, 3).double()

    def loss(x, weight, bias, residual):
        z = nn.functional.batch_norm(x, None, None, weight, bias, training=True) + residual
        h, total = 0.0, 0.0
        for z_t, grad_t in zip(z.unflatten(0, (steps, B)), grad_s.unflatten(0, (steps, B)), strict=True):
            h = h + (z_t - h) / tau
            total = total + (primitive(h - v_threshold) * grad_t).sum()
        return total

    x, weight, bias, residual = inputs
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    norm, n = norm_lif.of_channels(mean, var, weight, bias, 1e-5), torch.tensor(x[:, 0].numel()).double()
    g, sums = norm_lif.normed_gradient(x, norm, residual, grad_s, steps, steps, Dynamics(lif_spikes, lif_gradients, lif))
    grad_x = norm_lif.gradient_through_norm(x, g, norm, sums / n, None, steps)
    for position, gradient in enumerate([grad_x, *sums, g]):  # g reaches a residual as it is
        for seed in range(4):
            direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(seed)).double()
            high, low = [*inputs], [*inputs]
            high[position] = inputs[position] + 1e-6 * direction
            low[position] = inputs[position] - 1e-6 * direction
            difference = (loss(*high) - loss(*low)) / 2e-6
            assert (gradient * direction).sum().item() == pytest.approx(difference.item(), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("mean", [0.3, 1000.0], ids=["near zero", "far from it"])
@pytest.mark.parametrize("call", ["plain", "repeated", "summed, first"])
def test_the_statistics_of_a_batch_equal_torchs_in_float64_to_1e_6(call, mean, fused):
    fused(eager=True)
    module = lively().train()
    module.norm.momentum = 1.0
    module.norm.running_mean.fill_(mean)  # about which the sums are taken
    function, *rows = CALLS[call]
    inputs = [draw(n, seed, mean=mean / len(rows)) for seed, n in enumerate(rows, 1)]
    function(module, *inputs)
    y = inputs[0] if len(rows) == 1 else add_stream(*inputs)
    expected = torch.nn.BatchNorm2d(C, momentum=1.0).double().train()
    expected(y.double())
    torch.testing.assert_close(module.norm.running_mean.double(), expected.running_mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(module.norm.running_var.double(), expected.running_var, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("call", CALLS)
def test_evaluation_fused_equals_the_separate_modules(call, fused, monkeypatch):
    fused(eager=True)
    module = lively().eval()
    module.norm.running_var.mul_(1e-5)  # next to which eps counts
    module.norm.weight.data.mul_(3e-3)
    function, *rows = CALLS[call]
    inputs = [draw(n, seed) for seed, n in enumerate(rows, 1)]
    with torch.no_grad():
        ours = function(module, *inputs)
        monkeypatch.setattr(kernels, "_compiles", [False])
        reference = function(module, *inputs)
    assert all(torch.equal(a, b) for a, b in zip(ours, reference, strict=True))  # (sum, spikes), or images' spikes


def test_what_the_fused_loops_cannot_do_runs_as_separate_modules(fused, monkeypatch):
    fused(eager=True)
    x = draw(T * B, 1)

    def fuses(module, x=x, **other):
        return module._fuses(x, **other)

    assert fuses(lively().train())
    assert not fuses(lively().train(), x.contiguous())
    assert not fuses(lively().train(), x.double())
    assert not fuses(lively().train(), x.to("meta"))  # neither a CPU nor CUDA
    assert not fuses(lively().train(), residual=x[:B])
    assert fuses(lively().train(), stream=x[:B])
    assert not fuses(lively().train(), stream=x.contiguous())
    assert not fuses(lively().eval())  # differentiated through frozen statistics
    watched = lively().train()
    watched.lif.register_forward_hook(lambda *_: None)
    assert not fuses(watched)
    soft = NormLIF(C, LIF(T, v_reset=None))
    assert not fuses(soft)
    synchronised = lively()
    synchronised.norm = nn.SyncBatchNorm(C)
    assert not fuses(synchronised)


@pytest.mark.parametrize("call", ["plain", "summed", "summed, first"])
def test_the_forward_pass_keeps_the_convolutions_output_or_the_sum_alone(call, fused):
    fused(eager=True)
    kept = []
    function, *rows = CALLS[call]
    inputs = [draw(n, seed).requires_grad_() for seed, n in enumerate(rows, 1)]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        outputs = function(lively().train(), *inputs)
    assert sum(t.numel() for t in kept) == inputs[0].numel() + 4 * C
    assert all(t.requires_grad for t in outputs)

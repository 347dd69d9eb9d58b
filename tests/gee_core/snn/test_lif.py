"""The neuron against a trace worked by hand, against SpikingJelly, and against its surrogate's primitive."""

import copy

import pytest
import torch
from spikingjelly.activation_based import neuron, surrogate

from gee_core.snn.lif import ILIF, LIF

PIECEWISE = surrogate.PiecewiseQuadratic
SPIKINGJELLY_SURROGATES = {"piecewise_quadratic": PIECEWISE, "atan": surrogate.ATan, "sigmoid": surrogate.Sigmoid}


def reference(T, x, surrogate_name="piecewise_quadratic", surrogate_alpha=2.0, training=True, **settings):
    """SpikingJelly's own LIFNode on the unfolded (T, B, …) currents; (T*B, …) spikes."""
    settings = {"tau": 2.0, "decay_input": True, "v_threshold": 0.5, "v_reset": 0.0, "detach_reset": True} | settings
    function = SPIKINGJELLY_SURROGATES[surrogate_name](alpha=surrogate_alpha)
    node = neuron.LIFNode(**settings, surrogate_function=function, step_mode="m").train(training)
    return node(x.unflatten(0, (T, -1))).flatten(0, 1)


def dyadic(shape, seed=0):
    """Multiples of 1/64 in [-2, 2): with τ = 2 every membrane value is exact in float32."""
    return torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(seed)) / 64


def currents(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 1.2


# (decay_input, currents) of h = 0.3, 0.45, 0.525, 0.5, 0.45: worked by hand for τ = 2, V_th = 0.5.
TRACES = [(True, [0.6, 0.6, 0.6, 1.0, 0.9]), (False, [0.3, 0.3, 0.3, 0.5, 0.45])]


@pytest.mark.parametrize(("decay_input", "x"), TRACES, ids=["decay_input", "no_decay_input"])
def test_spikes_and_gradient_of_five_steps_equal_those_worked_by_hand(decay_input, x):
    x = torch.tensor(x, requires_grad=True)
    spikes = LIF(T=5, decay_input=decay_input)(x)
    assert spikes.tolist() == [0, 0, 1, 1, 0]  # step 4 lies exactly at the threshold and fires; step 3's reset is to 0
    spikes.sum().backward()
    # Slopes 2 - 4|h - 0.5|: 1.2, 1.8, 1.9, 2, 1.8. dh is slope + dv·(no spike), dv one step earlier is dh/2.
    dh = [2.575, 2.75, 1.9, 2.0, 1.8]
    expected = torch.tensor(dh) / (2 if decay_input else 1)
    torch.testing.assert_close(x.grad, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("tau", [2.0, 1.5])
@pytest.mark.parametrize("T", [1, 4])
def test_lif_equals_spikingjelly_spike_for_spike_and_in_its_gradient(T, tau, decay_input, training):
    x, grad_s = currents((T * 5, 3, 6, 6), seed=T).requires_grad_(), currents((T * 5, 3, 6, 6), seed=2)
    ours = LIF(T=T, tau=tau, decay_input=decay_input).train(training)(x)
    theirs = reference(T, x, tau=tau, decay_input=decay_input, training=training)
    assert torch.equal(ours, theirs)
    assert 0.05 < ours.mean() < 0.95  # neither silent nor saturated, or the comparison says nothing
    gradient, expected = (torch.autograd.grad(spikes, x, grad_s)[0] for spikes in (ours, theirs))
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)
    assert gradient.abs().max() > 0.1


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize(("tau", "v_threshold"), [(4 / 3, 1.0), (5.0, 0.47)])
@pytest.mark.parametrize("levels", [1, 2, 4, 8])
@pytest.mark.parametrize("T", [1, 2, 4])
def test_ilif_equals_spikingjelly_in_its_integers_and_its_gradient(T, levels, tau, v_threshold, detach_reset):
    x, grad_s = (currents((T * 5, 3, 6, 6)) * v_threshold * levels).requires_grad_(), currents((T * 5, 3, 6, 6), seed=2)
    node = neuron.ILIFNode(tau, v_threshold, surrogate.MultiLevelSpikeCount(levels), detach_reset, step_mode="m")
    ours = ILIF(T, levels, tau, v_threshold, detach_reset)(x)
    theirs = node(x.unflatten(0, (T, -1))).flatten(0, 1)
    assert torch.equal(ours, theirs)
    assert set(ours.unique().tolist()) == set(range(levels + 1))
    gradient, expected = (torch.autograd.grad(spikes, x, grad_s)[0] for spikes in (ours, theirs))
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6)


def test_ilifs_gradient_passes_at_both_ends_of_its_range():
    x = torch.tensor([-0.25, 0.0, 1.0, 2.0, 2.25], requires_grad=True)  # V_th = 0.5, D = 4
    ILIF(T=1, levels=4, v_threshold=0.5)(x).sum().backward()
    assert x.grad.tolist() == [0, 2, 2, 2, 0]


@pytest.mark.parametrize("alpha", [1.0, 2.0])
@pytest.mark.parametrize("decay_input", [True, False])
def test_on_exact_currents_lif_equals_spikingjelly_in_float64_bit_for_bit(decay_input, alpha):
    x, grad_s = dyadic((4 * 64,)), dyadic((4 * 64,), seed=1)
    y = x.clone().requires_grad_()
    spikes = LIF(T=4, decay_input=decay_input, surrogate_alpha=alpha)(y)
    y64 = x.double().requires_grad_()
    spikes64 = reference(4, y64, decay_input=decay_input, surrogate_alpha=alpha)
    assert torch.equal(spikes.double(), spikes64)
    grad, grad64 = torch.autograd.grad(spikes, y, grad_s)[0], torch.autograd.grad(spikes64, y64, grad_s.double())[0]
    assert torch.equal(grad.double(), grad64)


@pytest.mark.parametrize(
    "settings",
    [
        {"v_reset": None},
        {"v_reset": None, "surrogate_name": "atan"},
        {"v_reset": 0.1, "decay_input": False},
        {"detach_reset": False},
        {"surrogate_name": "sigmoid", "surrogate_alpha": 4.0, "tau": 1.5},
    ],
    ids=lambda s: ",".join(s),
)
def test_settings_off_the_fast_path_equal_spikingjelly_too(settings):
    x, grad_s = currents((4 * 5, 7), seed=3), currents((4 * 5, 7), seed=4)
    y, z = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours, theirs = LIF(T=4, **settings)(y), reference(4, z, **settings)
    assert torch.equal(ours, theirs)
    ours.backward(grad_s)
    theirs.backward(grad_s)
    assert torch.equal(y.grad, z.grad)


@pytest.mark.parametrize("v_threshold", [0.5, 1.0])
@pytest.mark.parametrize("alpha", [1.0, 2.0, 4.0])
def test_the_surrogate_gradient_is_the_finite_difference_of_its_primitive(alpha, v_threshold):
    primitive = surrogate.PiecewiseQuadratic(alpha=alpha, spiking=False)
    u = (torch.arange(-96, 96, dtype=torch.float64) + 0.5) / 64  # between the kinks at 0 and ±1/α
    eps = 1e-4
    difference = (primitive(u + eps) - primitive(u - eps)) / (2 * eps)
    x = (u + v_threshold).float().requires_grad_()
    LIF(T=1, decay_input=False, v_threshold=v_threshold, surrogate_alpha=alpha)(x).sum().backward()  # h = x
    torch.testing.assert_close(x.grad.double(), difference, rtol=1e-6, atol=1e-6)
    area = x.grad.double().sum() / 64  # ∫ of the triangle
    torch.testing.assert_close(area, torch.tensor(1.0, dtype=torch.float64), rtol=1e-3, atol=0)


def test_bf16_currents_give_bf16_spikes_of_a_float32_membrane():
    x = currents((7 * 20_000,), seed=5).bfloat16()
    spikes = LIF(T=7, tau=1.5)(x)
    assert spikes.dtype == torch.bfloat16
    assert torch.equal(spikes, LIF(T=7, tau=1.5)(x.float()).bfloat16())


FAST_AND_SLOW = pytest.mark.parametrize("settings", [{}, {"v_reset": None}], ids=["fast", "spikingjelly"])


@FAST_AND_SLOW
def test_no_state_is_left_behind_between_calls_batches_and_images(settings):
    lif = LIF(T=4, **settings)
    x = currents((4 * 3, 5), seed=6)
    first = lif(x)
    lif(currents((4 * 2, 5), seed=7) + 5)  # another batch size, every neuron firing
    assert torch.equal(lif(x), first)
    alone = lif(x.unflatten(0, (4, 3))[:, 1])
    assert torch.equal(first.unflatten(0, (4, 3))[:, 1], alone)
    lif(x.clone().requires_grad_())
    copy.deepcopy(lif)  # a membrane of the graph cannot be copied
    assert not lif.state_dict()


@FAST_AND_SLOW
def test_channels_last_currents_give_channels_last_spikes_and_gradients(settings):
    x = currents((8, 3, 5, 7)).to(memory_format=torch.channels_last).requires_grad_()
    spikes = LIF(T=4, **settings)(x)
    assert spikes.is_contiguous(memory_format=torch.channels_last)
    grad = torch.autograd.grad(spikes, x, torch.ones_like(spikes))[0]
    assert grad.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(spikes, LIF(T=4, **settings)(x.contiguous()))


def test_a_batch_that_is_no_multiple_of_the_steps_is_refused():
    with pytest.raises(ValueError, match=r"LIF\(T=4\) takes T\*B rows, .* got 7 rows"):
        LIF(T=4)(torch.ones(7, 1))  # steps and images are folded together: a ragged batch mixes them up


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"T": 4.0}, "T must be >= 1, and an int, got 4.0"),
        ({"levels": 0}, "levels must be >= 1, got 0"),
        ({"tau": 1}, "tau must be > 1 and at most 1e\\+06, got 1"),
        ({"decay_input": "no"}, "decay_input must be True or False, got 'no'"),
        ({"v_reset": float("nan")}, "v_reset must be from .* got nan"),
        ({"surrogate_name": "atann"}, "surrogate_name must be one of piecewise_quadratic, atan, sigmoid, got 'atann'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_setting_out_of_range_is_refused_with_its_value(setting, message):
    with pytest.raises(ValueError, match=message):
        (ILIF if "levels" in setting else LIF)(**setting)

"""An own network that cannot be trained is refused before anything is trained, and the trial changes nothing."""

import pytest
import torch

import gee_core
from gee_core.model.network import build_network
from gee_core.model.trainable import check_trainable
from tests.gee_core.own_networks import OWN, VGG, MultiStep

pytestmark = pytest.mark.usefixtures("own")


def twice(net, inputs, output):
    return (output, output) if net.training else output


def fewer(net, inputs, output):
    return output[..., :-1] if net.training else output


def not_a_number(net, inputs, output):
    return output * torch.nan


def ends(net, inputs, output):
    if net.training:
        raise SystemExit(3)


def raises_backwards(net, inputs, output):
    if net.training:
        output.register_hook(lambda gradient: 1 / 0)


def without_gradients(net, inputs, output):
    return output.detach()


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (twice, "it returns a tuple, not a tensor"),
        (fewer, r"its output has the shape \(4, 2, 4\), in evaluation mode \(4, 2, 5\)"),
        (not_a_number, r"it answers random images with values that are not finite \(NaN or infinite\)"),
        (ends, "it raises SystemExit: 3"),
        (raises_backwards, "its backward pass raises ZeroDivisionError: division by zero"),
        (without_gradients, "no gradient reaches a parameter: all are frozen, or forward runs under no_grad or detaches"),
    ],
)
@pytest.mark.parametrize("kind", [VGG, MultiStep])
@pytest.mark.parametrize("n_genes", [4, None], ids=["genetic", "plain"])
def test_what_fails_in_training_is_said_with_the_reason(kind, hook, message, n_genes):
    def build(**sizes):
        net = kind(**sizes)
        net.register_forward_hook(hook)
        return net

    gee_core.register_network("a:bad", build)
    net = build_network("a:bad", 5, 1, 8, n_genes)
    with pytest.raises(ValueError, match=f"^in training mode {message}$"), torch.no_grad():
        check_trainable(net)


def test_a_network_of_frozen_parameters_alone_is_refused_and_one_with_a_frozen_part_is_not():
    gee_core.register_network("a:frozen", lambda **sizes: VGG(**sizes).requires_grad_(False))
    net = build_network("a:frozen", 5, 1, 8, 4)
    with pytest.raises(ValueError, match="no gradient reaches a parameter: all are frozen"):
        check_trainable(net)
    net.get_submodule("net.head").requires_grad_(True)
    check_trainable(net)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("n_genes", [4, None], ids=["genetic", "plain"])
def test_the_trial_changes_neither_the_network_nor_the_global_generator(name, n_genes):
    net = build_network(name, 5, 1, 8, n_genes, T=3)
    before, state = {key: value.clone() for key, value in net.state_dict().items()}, torch.get_rng_state()
    check_trainable(net)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())

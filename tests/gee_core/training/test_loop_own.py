"""Epochs of the user's own networks."""

import pytest
import torch

from gee_core.genome.encoding import genome_of
from gee_core.model.network import build_network
from gee_core.training.loop import for_inference, outputs, train_epoch
from gee_core.training.optimizers import adamw
from tests.gee_core.own_networks import OWN
from tests.gee_core.training.test_loop import AS_THEY_ARE, BF16, FP32, numbered, recipe

pytestmark = pytest.mark.usefixtures("own")

IMAGES = numbered(16, size=8)


def trained(name, compute=FP32, n_genes=4, stop=None):
    """The network after an epoch; with ``stop``, after as many steps, in another process as it were, and the rest."""
    net = build_network(name, 2, 1, 8, n_genes, T=2)
    optimizer, states = adamw(net, 0.01), []

    def on_step(state):
        states.append(state)
        if state.step == stop:
            raise KeyboardInterrupt

    try:
        train_epoch(net, optimizer, IMAGES, recipe(compute=compute), 0, on_step=on_step)
    except KeyboardInterrupt:
        torch.manual_seed(stop)  # another process
        train_epoch(net, optimizer, IMAGES, recipe(compute=compute), 0, start=states[-1])
    return net


@pytest.mark.parametrize("compute", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", OWN)
def test_every_form_is_trained_and_two_runs_are_equal(name, compute):
    net, again = trained(name, compute), trained(name, compute)
    start = build_network(name, 2, 1, 8, 4, T=2)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in net.state_dict().items())
    changed = [not torch.equal(new, old) for new, old in zip(net.parameters(), start.parameters(), strict=True)]
    assert all(changed)
    assert genome_of(net) is not None
    ((o_TBK, _),) = outputs(for_inference(net), IMAGES, 16, AS_THEY_ARE, compute)
    assert o_TBK.shape == (2, 16, 2)
    assert o_TBK.isfinite().all()


@pytest.mark.parametrize("stop", [1, 3])
def test_an_epoch_with_dropout_that_was_interrupted_equals_an_undisturbed_one(stop):
    name = "networks.my:WithDropout"
    net, whole, other = trained(name, stop=stop), trained(name), trained("networks.my:MultiStep")
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in net.state_dict().items())
    heads = [dict(net.named_parameters())[key] for net, key in ((whole, "net.head.1.weight"), (other, "net.head.weight"))]
    assert not torch.equal(*heads)  # the dropout did something


def test_training_leaves_the_global_generator_as_it_was():
    before = torch.get_rng_state()
    trained("networks.my:WithDropout")
    assert torch.equal(torch.get_rng_state(), before)

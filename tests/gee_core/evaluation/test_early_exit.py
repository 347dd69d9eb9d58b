"""Early exit by hand, and step by step against all steps at once."""

import math

import pytest
import torch

from gee_core.errors import InputError
from gee_core.evaluation.early_exit import classify, find_exits
from gee_core.genome.encoding import decode
from gee_core.model.network import build_network
from tests.gee_core.lively import awake
from tests.gee_core.own_networks import lively


def test_an_image_leaves_at_the_first_step_at_which_the_mean_output_is_sure_enough():
    sure, odds = math.log(9.0), 0.9  # two classes: a difference of log 9 is a probability of 0.9
    o_TBK = torch.tensor([[[sure, 0], [0, 0], [0, 0]], [[0, 9], [2 * sure, 0], [0, 0]], [[0, 9], [0, 9], [0, 1]]])
    logits, steps = find_exits(o_TBK, odds - 1e-6)
    assert steps.tolist() == [1, 2, 3]
    torch.testing.assert_close(logits, torch.tensor([[sure, 0], [sure, 0], [0, 1 / 3]]))
    assert find_exits(o_TBK, odds + 1e-3)[1].tolist() == [2, 3, 3]  # the first is sure of the other class by then
    assert find_exits(torch.zeros(2, 1, 2), 0.5)[1].tolist() == [1]  # a probability of the confidence exactly is enough


@pytest.mark.parametrize("frames", [(), (4,)], ids=["images", "recordings"])
@pytest.mark.parametrize("settings", [{"block": "post"}, {"v_reset": None, "tau": 3.0}], ids=str)
def test_step_by_step_equals_all_steps_and_runs_none_of_an_image_that_has_left(settings, frames):
    x = torch.randn(*frames, 16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    net = awake(decode(build_network("resnet18", 5, 3, 8, 4, 1 / 16, T=4, **settings)), x)
    with torch.no_grad():
        o_TBK = net(x)
    sure_TB = (o_TBK.cumsum(0) / torch.arange(1, 5)[:, None, None]).softmax(2).amax(2)
    # At this confidence, images leave at the most different steps.
    confidence = max(sure_TB.flatten().tolist(), key=lambda sure: len(find_exits(o_TBK, sure)[1].unique()))
    rows = []
    net.stem.conv.register_forward_hook(lambda module, args, y: rows.append(len(y)))
    for sure in (0.0, confidence, 1.0):
        rows.clear()
        (logits, steps), (expected, n_steps) = classify(net, x, sure), find_exits(o_TBK, sure)
        assert torch.equal(steps, n_steps)
        torch.testing.assert_close(logits, expected)
        assert rows == [int((steps > t).sum()) for t in range(4) if (steps > t).any()]
    assert len(set(find_exits(o_TBK, confidence)[1].tolist())) > 1
    with torch.no_grad():
        assert torch.equal(net(x), o_TBK)


def test_an_own_network_is_refused(own):
    net, x = lively("networks.my:VGG")
    with pytest.raises(InputError, match="runs all steps of its code: leave out early exit"):
        classify(net, x, 0.9)

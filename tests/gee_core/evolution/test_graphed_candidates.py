"""What candidates whose passes are CUDA graphs leave behind. The graphs are simulated."""

import gc
import weakref

import pytest
import torch

from gee_core.evolution import proxy
from gee_core.evolution.proxy import score
from gee_core.training.cuda_graphs import GraphedNetwork
from tests.gee_core.evolution.proxy_task import candidate
from tests.gee_core.training.simulated_graphs import Captures


@pytest.mark.parametrize("fails", [False, True])
def test_the_graphs_of_a_candidate_are_gone_when_it_has_its_score(fails, task, monkeypatch):
    monkeypatch.setenv("GEE_CUDA_GRAPHS", "1")
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", captures := Captures())
    nets = []

    def parallel(net, compute):
        nets.append(weakref.ref(net))  # the simulated graphs hold it in a circle, as torch's hold a GPU's memory
        return GraphedNetwork(net)

    monkeypatch.setattr(proxy, "parallel", parallel)
    if fails:
        monkeypatch.setattr(proxy, "measure", lambda *_: 1 / 0)
    gc.disable()
    try:
        assert (score(task, candidate(0)).status == "ok") is not fails
        assert captures.shapes
        assert nets[0]() is None
    finally:
        gc.enable()

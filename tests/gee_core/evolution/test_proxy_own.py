"""Scores of candidates of the user's own networks."""

from dataclasses import replace

import pytest

from gee_core.checkpoint import load
from gee_core.config.known_networks import encoded_channels
from gee_core.evolution.candidate import Candidate
from gee_core.evolution.proxy import score
from gee_core.evolution.proxy_task import checkpoint_name
from gee_core.genome.genotype import Genotype
from tests.gee_core.evolution.proxy_task import EVOLVE, NETWORK

pytestmark = pytest.mark.usefixtures("own")


@pytest.mark.parametrize("name", ["networks.my:VGG", "networks.my:ResNet", "networks.my:WithDropout"])
def test_a_candidate_is_trained_measured_and_saved_with_equal_results(name, task, tmp_path):
    network = NETWORK.model_copy(update={"name": name, "width": 1.0})
    evolve = EVOLVE.model_copy(update={"proxy_epochs": 1})
    task = replace(task, network=network, evolve=evolve, checkpoints=tmp_path)
    candidate = Candidate(0, 0, 7, Genotype(0.4, (0.4,) * len(encoded_channels(name))))
    found = score(task, candidate)
    assert found.status == "ok"
    assert load(tmp_path / checkpoint_name(candidate)).built_with["name"] == name
    assert score(replace(task, checkpoints=None), candidate) == found

"""Budgets: what a candidate costs, before it is trained and after, and where it ranks if that is too much."""

from dataclasses import replace

import pytest
from safetensors import safe_open

from gee_core.checkpoint import load
from gee_core.config.evolve import Budget
from gee_core.data.prepared import load_prepared
from gee_core.evaluation.energy import measure_energy
from gee_core.evolution.candidate import Failure, Price, failed
from gee_core.evolution.loop import evolve
from gee_core.evolution.proxy import apply_budget, count_price, most_genes, score
from gee_core.evolution.winner import final_fitness, winner
from gee_core.gene_file import save_genes
from gee_core.model.network import count_parameters
from gee_core.model.wired import wired_network
from tests.gee_core.evolution.made_up import SPACE, Scorer, config, measured
from tests.gee_core.evolution.proxy_task import NETWORK, candidate, changed

PRICE = Price(1000, 900, 4, 2.5)


def test_the_price_of_a_network_is_its_parameters_bytes_steps_and_energy(task, tmp_path):
    meta = load_prepared(task.prepared).meta
    net = wired_network(NETWORK, meta, None, 0)
    price = count_price(net, meta, 4.6)
    save_genes(tmp_path / "genes.safetensors", net)
    with safe_open(tmp_path / "genes.safetensors", "pt") as file:
        stored = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
    assert price.bytes == sum(tensor.nbytes for tensor in stored)
    assert (price.parameters, price.steps) == (count_parameters(net), 3)
    layers = measure_energy(net, meta.normalise(load_prepared(task.prepared).holdout_images().images)).layers
    assert price.energy_uj == pytest.approx(1e-6 * 4.6 * layers[0].macs)  # the stem alone


@pytest.mark.parametrize("name", ["vgg16", "resnet19"])
def test_the_most_genes_are_the_last_that_fit_into_the_parameters(task, name):
    meta, network = load_prepared(task.prepared).meta, NETWORK.model_copy(update={"name": name, "tilt": 1.5})

    def parameters(n_genes):
        return count_parameters(wired_network(network.model_copy(update={"n_genes": n_genes}), meta, None, 0))

    for part in (1 / 3, 1 / 2, 1):
        g = most_genes(network, meta, limit := int(part * parameters(None)))
        assert parameters(g) <= limit < parameters(g + 1)
    exact = parameters(5)
    assert (most_genes(network, meta, exact), most_genes(network, meta, exact - 1)) == (5, 4)
    assert most_genes(network, meta, 10) == 0


def test_what_exceeds_a_limit_counts_by_its_part_and_what_has_no_limit_does_not():
    cfg, within = config(budget=Budget(parameters=800, energy_uj=2.0, steps=4)), replace(PRICE, parameters=800, energy_uj=2.0)
    outside = apply_budget(measured(1.0), cfg, PRICE)
    assert (outside.excess, outside.price, outside.failure) == (pytest.approx(0.25 + 0.25), PRICE, Failure.BUDGET)
    assert outside.status == "outside: parameters = 1,000 of 800, energy_uj = 2.5 of 2.0"
    assert apply_budget(measured(1.0), cfg, within) == measured(1.0, price=within)
    assert apply_budget(measured(1.0), config(), PRICE) == measured(1.0, price=PRICE)


def test_a_candidate_that_is_too_large_is_not_trained(task, tmp_path):
    task = replace(task, checkpoints=tmp_path)
    fits = score(changed(task, budget=Budget(parameters=10**6, energy_uj=1e3)), candidate())
    assert (fits.status, fits.excess) == ("ok", 0.0)
    net = load(tmp_path / "gen2-cand0.safetensors").eval()
    data = load_prepared(task.prepared)
    activity = measure_energy(net, data.meta.normalise(data.holdout_images().images))
    assert fits.price.energy_uj == pytest.approx(1000 * activity.energy_mj(), rel=1e-6)
    large = score(changed(task, budget=Budget(bytes=100)), candidate())
    assert large.status.startswith(f"outside: bytes = {fits.price.bytes:,} of 100") and large.image_passes == 0
    assert large.excess == pytest.approx(fits.price.bytes / 100 - 1) and large.repeatable
    lively = score(changed(task, budget=Budget(energy_uj=0.99 * fits.price.energy_uj)), candidate())
    assert lively.status.startswith("outside: energy_uj") and lively.excess == pytest.approx(1 / 0.99 - 1)
    assert (lively.L_ce, lively.image_passes) == (fits.L_ce, fits.image_passes) and lively.image_passes > 0
    assert score(task, candidate()).price is None  # of no interest


def test_the_search_moves_into_the_budget_and_no_candidate_outside_wins():
    limit = SPACE.start.sigma_O / 1.5

    def lower_is_worse(c):
        sigma = c.genotype.sigma_O
        if sigma > limit:
            return replace(failed("x", Failure.BUDGET), status="outside", excess=sigma / limit - 1)
        return measured(1.0 / sigma)

    cfg = config(variant="baseline", n_generations=8, population_size=8)
    records = evolve(cfg, SPACE, 3, Scorer(lower_is_worse))
    by_generation = [[r.ok for r in records if r.candidate.generation == g] for g in range(8)]
    assert not by_generation[0][0] and sum(by_generation[-1]) > sum(by_generation[0])
    assert all((F == F) == r.ok for F, r in zip(final_fitness(records, cfg), records, strict=True))
    assert winner(records, cfg).candidate.genotype.sigma_O <= limit

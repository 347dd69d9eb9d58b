"""What a network costs before it is trained, and the widest that a budget allows."""

from dataclasses import replace

import pytest
from safetensors import safe_open

from gee_core.config.evolve import Budget
from gee_core.data.prepared import load_prepared
from gee_core.evolution.candidate import Price
from gee_core.evolution.price import Allowance, most_genes, pricing
from gee_core.evolution.proxy import score
from gee_core.evolution.search_vector import SearchSpace
from gee_core.gene_file import save_genes
from gee_core.genome.genotype import Genotype, configured_genotype
from gee_core.model.network import count_parameters
from gee_core.model.wired import plain_parameters, wired_network
from tests.gee_core.evolution.proxy_task import NETWORK, candidate

WIDE = NETWORK.model_copy(update={"width": 0.5, "n_genes": 40})
START = replace(configured_genotype(WIDE), settings=(("width", 0.5), ("n_genes", 40), ("T", 3)))


@pytest.fixture(scope="module")
def price(task):
    return pricing(WIDE, task.prepared, task.pj)


@pytest.fixture(scope="module")
def within(task, price):
    """Makes the space of the networks within a budget."""

    def make(**limits: float) -> SearchSpace:
        plain = plain_parameters(WIDE, load_prepared(task.prepared).meta)
        numbers = Budget(**limits).limits(price(START).energy_uj, plain)
        return SearchSpace(("n_genes", "T"), START, 4.0, WIDE, Allowance(numbers, price, solves_width=True))

    return make


def at_width(width: float) -> Genotype:
    """A genotype of the network of the task."""
    return replace(candidate().genotype, settings=(("width", width),))


def width_of(genotype: Genotype) -> float:
    return dict(genotype.settings)["width"]


LIMITS = {"parameters": 20_000, "ratio": 0.02, "bytes": 25_000, "energy": 0.4, "energy_uj": 0.3}


@pytest.mark.parametrize("limits", [*({name: most} for name, most in LIMITS.items()), LIMITS | {"steps": 3}], ids="-".join)
def test_the_widest_network_is_within_the_limits_and_one_5_percent_wider_is_not(limits, within, price):
    space = within(**limits)
    found = space.fitted(START)
    assert space.allowance.exceeded(price(START)) and not space.allowance.exceeded(price(found))
    assert space.allowance.exceeded(price(space.at_width(START, 1.05 * width_of(found))))


def test_a_limit_of_steps_cuts_them_and_leaves_the_width(within, price):
    space = within(steps=2)
    drawn = space.genotype(space.bounds()[1])
    assert (price(drawn).steps, width_of(drawn), space.allowance.exceeded(price(drawn))) == (2, 0.5, {})
    assert space.allowance.exceeded(price(START)) == {"steps": pytest.approx(0.5)}


def test_all_of_a_budget_is_used_up_to_twice_the_width_of_the_start():
    def widest(limit: float) -> float:
        allowance = Allowance({"parameters": limit}, lambda g: Price(int(1e6 * width_of(g) ** 2), 1, 1, 1.0), solves_width=True)
        return width_of(allowance.widest(at_width, 0.1))

    assert 0.97 * 0.15**2 <= widest(1e6 * 0.15**2) ** 2 <= 0.15**2
    assert widest(1e6) == 0.2
    assert widest(0.5) == 0.001  # no width is within: the narrowest


def test_the_price_of_a_network_is_its_parameters_bytes_and_steps(task, price, tmp_path):
    meta = load_prepared(task.prepared).meta
    save_genes(tmp_path / "genes.safetensors", net := wired_network(WIDE, meta, START, 0))
    with safe_open(tmp_path / "genes.safetensors", "pt") as file:
        stored = sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118
    n, plain = count_parameters(net), plain_parameters(WIDE, meta)
    counted = price(START)
    assert (counted.parameters, counted.bytes, counted.steps, counted.own_ratio) == (n, stored, 3, n / plain)


def test_the_energy_that_is_counted_is_about_that_after_the_training(task):
    counted = pricing(task.network, task.prepared, task.pj)(candidate().genotype)
    trained = score(task, replace(candidate(), price=counted))
    assert trained.energy_uj == pytest.approx(counted.energy_uj, rel=0.3) and trained.energy_uj != counted.energy_uj


def test_of_relative_and_absolute_limits_the_lower_one_counts():
    def limits(**values):
        found = Budget(**values).limits(start_uj=2.0, plain_parameters=1001)
        return [found.get(name) for name in ("energy_uj", "parameters", "own_ratio")]

    assert limits() == [None, None, 1.0]
    assert limits(energy=0.5, ratio=0.5) == [1.0, 500, 1.0]
    assert limits(energy=0.5, energy_uj=0.75, ratio=0.5, parameters=600) == [0.75, 500, 1.0]


@pytest.mark.parametrize("name", ["vgg16", "resnet19"])
def test_the_most_genes_are_the_last_that_fit_and_no_more_than_their_weights(task, name):
    meta, network = load_prepared(task.prepared).meta, NETWORK.model_copy(update={"name": name, "tilt": 1.5})

    def parameters(n_genes):
        return count_parameters(wired_network(network.model_copy(update={"n_genes": n_genes}), meta, None, 0))

    linear = parameters(2) - parameters(1) - 3  # g genes are g² + linear·g numbers
    for g in (1, 5):
        assert [most_genes(network, g * (g + linear) - less) for less in (0, 1)] == [g, g - 1]
    most = most_genes(network)
    assert parameters(most) <= parameters(None) < parameters(most + 1)
    assert most_genes(network, 1e9) == most and most_genes(network, -1) == 0

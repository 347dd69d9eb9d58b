"""Scores of real candidates on a few images, in this process and in workers."""

import math
import re
from dataclasses import replace
from multiprocessing import get_context

import pytest
import torch
import torch.nn.functional as F

from gee_core.checkpoint import load
from gee_core.config import BaseConfig, EvolveConfig, NetworkConfig
from gee_core.data.prepared import Prepared, load_prepared
from gee_core.errors import InputError
from gee_core.evolution import proxy
from gee_core.evolution.candidate_states import forget_rungs
from gee_core.evolution.fitness import spatial_entropy, temporal_difference
from gee_core.evolution.proxy import Candidate, ProxyTask, Score, checkpoint_name, proxy_recipe, score
from gee_core.genome.encoding import genome_of
from gee_core.genome.genotype import Genotype
from gee_core.hardware import Compute
from gee_core.model.wired import wired_network
from gee_core.training.loop import steps_per_epoch

BASE = BaseConfig(seed=0, device="cpu", precision="fp32")
NETWORK = NetworkConfig(
    name="vgg16",
    width=1 / 16,
    n_genes=6,
    T=3,
    tau=2.0,
    decay_input=True,
    v_threshold=0.5,
    v_reset=0.0,
    detach_reset=True,
    surrogate="piecewise_quadratic",
    surrogate_alpha=2.0,
)
EVOLVE = EvolveConfig(
    variant="ste",
    genotype="per_layer",
    n_generations=1,
    population_size=2,
    sigma=0.2,
    bound=4.0,
    proxy_epochs=2,
    proxy_images=None,
    batch_size=8,
    lr=0.01,
    weight_decay=0.01,
    a=0.1,
    b=0.1,
    tau_lambda=2.0,
    entropy="absolute",
    start=None,
    halving=None,
)
LAYERS = 8


def candidate(index: int = 0, sigma: float = 0.4) -> Candidate:
    return Candidate(2, index, 100 + index, Genotype(sigma, (sigma,) * LAYERS))


@pytest.fixture(scope="module")
def task(make_prepared) -> ProxyTask:
    return ProxyTask(make_prepared(), BASE, NETWORK, EVOLVE)


@pytest.fixture(scope="module")
def scores(task) -> list[Score]:
    """Of candidates 0, 1 and 2, one after the other in this process."""
    return [score(task, candidate(index)) for index in range(3)]


def changed(task: ProxyTask, **evolve) -> ProxyTask:
    return replace(task, evolve=task.evolve.model_copy(update=evolve))


def test_candidates_with_other_wirings_have_other_scores(scores):
    assert all(s.status == "ok" for s in scores)
    assert len({(s.L_ce, s.R_T, s.R_S) for s in scores}) == 3


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_score_is_the_same_in_this_process_and_in_any_number_of_workers(n_workers, task, scores):
    with get_context("spawn").Pool(n_workers, torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        found = pool.starmap(score, [(task, candidate(index)) for index in (2, 0, 1)], chunksize=1)
    assert found == [scores[2], scores[0], scores[1]]


def test_neither_the_candidates_before_nor_the_global_generator_change_a_score(task, scores):
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    assert score(task, candidate(1)) == scores[1]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_place_in_the_search_does_not_change_a_score_but_seed_and_sigmas_do(task, scores):
    assert score(task, replace(candidate(0), generation=7, index=3)) == scores[0]
    assert score(task, replace(candidate(0), seed=5)) != scores[0]
    assert score(task, replace(candidate(0), genotype=candidate(0, sigma=0.41).genotype)) != scores[0]


def test_the_score_is_what_its_trained_network_measures_on_the_holdout(task, scores, tmp_path):
    c = candidate(0)
    assert score(replace(task, checkpoints=tmp_path), c) == scores[0]
    data = load_prepared(task.prepared)
    net = load(tmp_path / checkpoint_name(c)).eval()
    holdout = data.holdout_images()
    with torch.no_grad():
        o_TBK = net(data.meta.normalise(holdout.images))
    logits = o_TBK.mean(0)
    L_ce, R_T = F.cross_entropy(logits, holdout.labels), temporal_difference(o_TBK)
    measured = [L_ce.item(), R_T.item(), spatial_entropy(genome_of(net).O.detach()).item()]
    assert measured == pytest.approx([scores[0].L_ce, scores[0].R_T, scores[0].R_S], rel=1e-5)
    assert scores[0].proxy_accuracy == (logits.argmax(1) == holdout.labels).double().mean().item()


def test_regularisers_are_measured_after_the_training(task, scores):
    net = wired_network(NETWORK, load_prepared(task.prepared).meta, candidate(0).genotype, candidate(0).seed)
    before = spatial_entropy(genome_of(net).O.detach()).item()
    assert abs(before - scores[0].R_S) > 1e-6


def test_training_longer_gives_a_lower_loss_on_the_holdout(task, scores):
    longer = score(changed(task, proxy_epochs=10), candidate(0))
    assert longer.L_ce < scores[0].L_ce
    assert longer.proxy_accuracy >= scores[0].proxy_accuracy


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"lr": 1e30}, r"FloatingPointError: the training loss is \w+ in epoch \d"),
        ({"lr": 1e38, "proxy_epochs": 1, "batch_size": 64}, r"L_ce = \w+, R_T = \w+, R_S = .* on the hold-out"),
    ],
    ids=["in training", "in its last step"],
)
def test_a_candidate_that_diverges_is_a_failed_score_and_no_exception(settings, reason, task):
    result = score(changed(task, **settings), candidate(0))
    assert re.match(f"failed: {reason}", result.status)
    assert all(math.isnan(x) for x in (result.L_ce, result.R_T, result.R_S, result.proxy_accuracy))


@pytest.mark.parametrize(
    "error",
    [
        FloatingPointError("loss is nan"),
        OverflowError("σ is too large"),
        RuntimeError("two\nlines"),
        torch.OutOfMemoryError("of " + 1000 * "x"),
        MemoryError("no room"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_in_training_is_a_failed_score_with_its_reason_on_one_short_line(error, task, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(proxy, "train_epoch", fail)
    status = score(task, candidate(0)).status
    assert status.startswith(f"failed: {type(error).__name__}: ")
    assert "\n" not in status
    assert len(status) <= 500


def test_missing_images_are_no_candidates_fault_and_stop_the_run(task, tmp_path):
    with pytest.raises(InputError, match="not found"):
        score(replace(task, prepared=tmp_path / "missing"), candidate(0))


def test_test_images_never_reach_a_candidate(task, scores, make_prepared, monkeypatch):
    other = replace(task, prepared=make_prepared(test_seed=99))
    assert not torch.equal(load_prepared(task.prepared).test.images, load_prepared(other.prepared).test.images)

    def read_test_images(self):
        raise AssertionError("the test images were read")

    loaded = proxy.load_prepared
    monkeypatch.setattr(proxy, "load_prepared", lambda folder: Guarded(*vars(loaded(folder)).values()))
    monkeypatch.setattr(Guarded, "test", property(read_test_images, lambda self, value: None), raising=False)
    assert [score(other, candidate(index)) for index in range(3)] == scores


class Guarded(Prepared):
    """Prepared images whose ``test`` a test can replace."""

    def __init__(self, meta, train, test, holdout):
        vars(self).update(meta=meta, train=train, holdout=holdout)


def test_holdout_images_are_never_trained_on(task, monkeypatch):
    seen = []
    real = proxy.train_epoch
    monkeypatch.setattr(proxy, "train_epoch", lambda net, o, images, *a: (seen.append(images), real(net, o, images, *a)))
    score(task, candidate(0))
    data = load_prepared(task.prepared)
    trained, held_out = ({bytes(image.numpy()) for image in part} for part in (seen[0].images, data.holdout_images().images))
    assert len(trained) == len(data.train) - len(data.holdout) == 21
    assert not trained & held_out


def test_a_part_of_the_training_images_can_be_asked_for(task, scores, monkeypatch):
    seen = []
    real = proxy.train_epoch
    monkeypatch.setattr(proxy, "train_epoch", lambda net, o, images, *a: (seen.append(len(images)), real(net, o, images, *a)))
    assert score(changed(task, proxy_images=16), candidate(0)) != scores[0]
    assert seen == [16, 16]


def test_the_recipe_has_a_tenth_of_its_steps_as_warm_up_and_no_augmentation(task):
    meta = load_prepared(task.prepared).meta
    normalise, compute = meta.normalise, Compute.of("cpu", "fp32")
    recipe = proxy_recipe(changed(task, proxy_epochs=10).evolve, normalise, compute, 64, seed=1)
    assert (recipe.warmup_steps, recipe.augment, recipe.label_smoothing, recipe.lr_min) == (8, None, 0.0, 0.0)
    one, other = (proxy_recipe(task.evolve, normalise, compute, 8, seed) for seed in (1, 2))
    assert one.warmup_steps == 1
    assert one.seed != other.seed


@pytest.mark.parametrize("folder", [True, False], ids=["going on from its state", "from its wiring again"])
def test_a_candidate_that_is_scored_rung_by_rung_ends_with_the_same_score_and_network(folder, task, tmp_path, monkeypatch):
    task = changed(task, proxy_epochs=3)
    whole = score(replace(task, checkpoints=tmp_path / "whole"), candidate(0))
    epochs, real = [], proxy.train_epoch
    monkeypatch.setattr(proxy, "train_epoch", lambda *a: (epochs.append(a[4]), real(*a))[1])
    rungs = replace(task, checkpoints=tmp_path / "rungs" if folder else None)
    found = [score(rungs, replace(candidate(0), epochs=n)) for n in (1, 2, 3)]
    assert found[-1] == whole
    assert epochs == ([0, 1, 2] if folder else [0, 0, 1, 0, 1, 2])
    assert [3 * s.image_passes for s in found] == [whole.image_passes, 2 * whole.image_passes, 3 * whole.image_passes]
    if folder:
        name = checkpoint_name(candidate(0))
        assert (tmp_path / "rungs" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def load_images(task):
    return load_prepared(task.prepared).proxy_train(task.evolve.proxy_images, 0)


def test_the_cost_is_the_images_that_were_seen_by_the_epochs_it_took(task, scores):
    n = len(load_images(task))
    seen = min(n, 8 * ((n + 4) // 8))  # a last batch that is less than half full waits
    assert {s.image_passes for s in scores} == {2 * seen}
    assert score(changed(task, proxy_images=16), candidate(0)).image_passes == 32
    assert score(changed(task, proxy_epochs=5), candidate(0)).image_passes == 5 * seen
    diverged = score(changed(task, lr=1e30), candidate(0))
    assert diverged.image_passes in (seen, 2 * seen)


def states(folder):
    return sorted(path.name for path in folder.glob("*-step*.safetensors"))


def steps(task, epochs):
    """Steps of so many epochs, as states are numbered by them."""
    return epochs * steps_per_epoch(len(load_images(task)), task.evolve.batch_size)


def test_the_latest_two_states_are_kept_until_their_generation_is_forgotten(task, tmp_path):
    task = changed(replace(task, checkpoints=tmp_path), proxy_epochs=4)
    names = [f"gen2-cand0-step-{steps(task, n):08}.safetensors" for n in (1, 2, 3)]
    for n, kept in ((1, names[:1]), (2, names[:2]), (3, names[1:])):
        score(task, replace(candidate(0), epochs=n))
        assert states(tmp_path) == kept
    score(task, replace(candidate(0), generation=3, epochs=1))
    forget_rungs(tmp_path, 2)
    assert states(tmp_path) == [names[0].replace("gen2", "gen3")]


@pytest.mark.parametrize("damage", ["cut off", "a bit", "a bit of the JSON", "of another candidate"])
def test_a_state_that_is_no_use_is_not_used(damage, task, tmp_path, caplog):
    task = changed(replace(task, checkpoints=tmp_path), proxy_epochs=3)
    whole = score(replace(task, checkpoints=None), candidate(0))
    for n in (1, 2):
        score(task, replace(candidate(0, sigma=0.3 if damage == "of another candidate" else 0.4), epochs=n))
    path = tmp_path / f"gen2-cand0-step-{steps(task, 2):08}.safetensors"
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "a bit":
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "a bit of the JSON":
        text = path.with_suffix(".json").read_text()
        path.with_suffix(".json").write_text(text.replace('"epochs": 2', '"epochs": 3'))
    assert score(task, replace(candidate(0), epochs=3)) == whole
    named = [message for message in caplog.messages if path.stem in message and "damaged" in message]
    assert len(named) == len(caplog.messages) == (damage != "of another candidate")


@pytest.mark.parametrize("halving", [True, False])
def test_a_candidate_that_was_stopped_in_mid_epoch_ends_with_the_same_score_and_network(halving, task, tmp_path, monkeypatch):
    task = changed(task, proxy_epochs=3)
    candidates = [replace(candidate(0), epochs=n) for n in (1, 2, 3)] if halving else [candidate(0)]
    whole = [score(replace(task, checkpoints=tmp_path / "whole"), c) for c in candidates]
    stopped, real, done = replace(task, checkpoints=tmp_path / "stopped", save_seconds=0.0), proxy.train_epoch, []
    for n_states in (2, 3, 1):  # three epochs have six moments at which one is kept
        left = iter(range(n_states - 1))

        def stop(*arguments, left=left):
            *others, on_step = arguments

            def stop_on_step(mid_epoch):
                on_step(mid_epoch)
                if next(left, None) is None:
                    raise KeyboardInterrupt

            return real(*others, stop_on_step)

        with monkeypatch.context() as patch:
            patch.setattr(proxy, "train_epoch", stop)
            with pytest.raises(KeyboardInterrupt):
                done += (score(stopped, c) for c in candidates[len(done) :])
    assert [*done, *(score(stopped, c) for c in candidates[len(done) :])] == whole
    name = checkpoint_name(candidate(0))
    assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_rung_that_was_killed_after_its_state_was_kept_is_measured_again(task, tmp_path, monkeypatch):
    task = changed(replace(task, checkpoints=tmp_path), proxy_epochs=3)
    first = score(task, replace(candidate(0), epochs=1))
    monkeypatch.setattr(proxy, "train_epoch", lambda *_: pytest.fail("trained again"))
    assert score(task, replace(candidate(0), epochs=1)) == first

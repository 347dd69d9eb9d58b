"""Scores of real candidates on a few images."""

import math
import pickle
import re
from dataclasses import replace
from statistics import fmean

import pytest
import torch
import torch.nn.functional as F

from gee_core.compute import Compute
from gee_core.config.network import encoded_channels
from gee_core.data.augment import Augment, resize_square
from gee_core.data.prepared import load_prepared
from gee_core.evaluation.energy import measure_energy
from gee_core.evolution import proxy
from gee_core.evolution.candidate import Candidate, Failure, Price, Score
from gee_core.evolution.fitness import spatial_entropy, temporal_difference
from gee_core.evolution.proxy import kind_of, proxy_recipe, score
from gee_core.genome.encoding import genome_of
from gee_core.genome.genotype import Genotype
from gee_core.seeding import derive_seed
from tests.gee_core.evolution.proxy_task import NETWORK, candidate, changed, train_images


@pytest.fixture(scope="module")
def first(task) -> Score:
    """Of candidate 0."""
    return score(task, candidate(0))


@pytest.fixture
def trained(monkeypatch) -> list:
    """The networks that are measured from now on."""
    nets, real = [], proxy.measure
    monkeypatch.setattr(proxy, "measure", lambda net, *others: (nets.append(net), real(net, *others))[1])
    return nets


def test_wiring_and_image_order_depend_on_the_seed_and_the_score_on_the_genes(task, first):
    same = replace(candidate(0), index=1)
    assert score(task, same) == first
    assert score(task, replace(same, genotype=candidate(0, sigma=0.2).genotype)) != first
    assert score(task, replace(same, seed=7)) != first


@pytest.mark.parametrize("sizes", [None, [8, 16]])
def test_the_score_is_what_its_network_measures_on_images_of_the_last_size(task, first, trained, sizes):
    c, size = candidate(0), sizes and sizes[-1]
    scored = score(changed(task, sizes=sizes), c)
    assert (scored == first) == (sizes is None)
    data = load_prepared(task.prepared)
    net = trained[-1].eval()
    holdout = data.holdout_images()
    with torch.no_grad():
        o_TBK = net(resize_square(data.meta.normalise(holdout.images), size))
    logits = o_TBK.mean(0)
    L_ce, R_T = F.cross_entropy(logits, holdout.labels), temporal_difference(o_TBK)
    measured = [L_ce.item(), R_T.item(), o_TBK.var(correction=0).item(), spatial_entropy(genome_of(net).O.detach()).item()]
    assert measured == pytest.approx([scored.L_ce, scored.R_T, scored.var_o, scored.R_S], rel=1e-5)
    assert scored.proxy_accuracy == (logits.argmax(1) == holdout.labels).double().mean().item()


def test_a_plain_network_is_scored_too_with_no_entropy_of_genes(task):
    plain = replace(task, network=task.network.model_copy(update={"n_genes": None}))
    scored = score(plain, replace(candidate(0), genotype=Genotype(1.0, (), settings=(("width", 1 / 8),))))
    narrow = score(plain, replace(candidate(0), genotype=Genotype(1.0, (), settings=(("width", 1 / 16),))))
    assert (scored.status, scored.R_S) == ("ok", 0.0) and scored.L_ce != narrow.L_ce


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FloatingPointError("two\nlines"), Failure.DIVERGED),
        (torch.linalg.LinAlgError("it is singular"), Failure.DIVERGED),
        (RuntimeError("value cannot be converted to type float without overflow"), Failure.DIVERGED),
        (torch.OutOfMemoryError("of it"), Failure.GPU_MEMORY),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), Failure.GPU_MEMORY),
        (MemoryError("all of it"), Failure.MEMORY),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), Failure.CODE),
    ],
)
def test_errors_are_of_kinds(error, kind):
    assert kind_of(error) is kind


def test_an_error_is_a_failed_score_unless_the_gpu_is_lost_or_the_code_is_wrong(task, monkeypatch):
    def failing(error):
        monkeypatch.setattr(proxy, "train_epoch", lambda *_: (_ for _ in ()).throw(error))
        return score(task, replace(candidate(0), generation=3, index=2))

    result = failing(MemoryError("two\n" + 1000 * "lines"))
    assert result.failure is Failure.MEMORY and not result.repeatable
    assert result.status.startswith("failed: MemoryError: two lines") and len(result.status) == 500
    with pytest.raises(RuntimeError, match="unspecified launch failure"):
        failing(RuntimeError("CUDA error: unspecified launch failure"))
    with pytest.raises(ValueError, match="no such layer") as caught:
        failing(ValueError("no such layer"))
    note = f"in candidate 2 of generation 3, seed {candidate(0).seed}"
    assert pickle.loads(pickle.dumps(caught.value)).__notes__ == [note]  # as it comes from a worker


def test_test_images_never_reach_a_candidate(task, first, make_prepared):
    other = replace(task, prepared=make_prepared(test_seed=99))
    assert not torch.equal(load_prepared(task.prepared).test.images, load_prepared(other.prepared).test.images)
    assert score(other, candidate(0)) == first


def test_it_is_trained_without_the_holdout_as_evolve_says_and_measured_at_all_steps(task, first, monkeypatch):
    seen, losses, measured, real, measure = [], [], [], proxy.train_epoch, proxy.measure

    def noted(net, optimizer, images, recipe, *arguments):
        seen.append(images)
        assert recipe.seed == derive_seed(candidate(0).seed, "proxy")  # of the order of the images
        losses.append((record := real(net, optimizer, images, recipe, *arguments)).train_loss)
        return record

    def noting(net, holdout, *arguments):
        measured.append((net.T, holdout.image_size))
        return measure(net, holdout, *arguments)

    monkeypatch.setattr(proxy, "train_epoch", noted)
    monkeypatch.setattr(proxy, "measure", noting)
    result = score(changed(task, optimizer="muon", T_schedule=[1]), candidate(0))
    assert result.status == "ok" and result != first
    assert result.TSE == fmean(losses) != losses[0]
    assert measured == [(NETWORK.T, 8)]
    data = load_prepared(task.prepared)
    trained, held_out = ({bytes(image.numpy()) for image in part} for part in (seen[0].images, data.holdout_images().images))
    assert len(trained) == len(data.train) - len(data.holdout) == 21
    assert not trained & held_out


def test_the_recipe_has_a_tenth_of_its_steps_as_warm_up_and_no_augmentation(task):
    normalise, compute = load_prepared(task.prepared).meta.normalise, Compute.of("cpu", "fp32")
    recipe = proxy_recipe(changed(task, epochs=10).evolve.proxy, normalise, compute, 64, seed=1)
    assert (recipe.warmup_steps, recipe.augment, recipe.cfg.label_smoothing) == (8, Augment(0, False, 0, 0.0), 0.0)
    assert (recipe.cfg.norm_images, recipe.cfg.lr, recipe.cfg.epochs) == (None, task.evolve.proxy.lr, 10)
    one, other = (proxy_recipe(task.evolve.proxy, normalise, compute, 8, seed) for seed in (1, 2))
    assert one.warmup_steps == 1
    assert one.seed != other.seed


def test_the_cost_is_the_images_seen_in_all_epochs_also_where_it_diverged(task, first):
    n = len(train_images(task))
    seen = min(n, 8 * ((n + 4) // 8))  # a last batch that is less than half full waits
    assert first.image_passes == 2 * seen
    assert score(changed(task, images=16), candidate(0)).image_passes == 32
    diverged = score(changed(task, lr=1e30), candidate(0))
    assert re.match(r"failed: FloatingPointError: the training loss is \w+ in epoch \d", diverged.status)
    assert diverged.image_passes in (seen, 2 * seen) and math.isnan(diverged.L_ce)
    overflown = score(changed(task, lr=1e3), candidate(0, sigma=1e6))
    assert re.match(r"failed: FloatingPointError: \S+running_var holds values that are not finite after", overflown.status)
    assert overflown.image_passes == 2 * seen


@pytest.mark.usefixtures("own")
def test_a_candidate_of_an_own_network_has_the_same_score_where_states_are_saved(task, trained, tmp_path):
    name = "networks.my:WithDropout"
    task = changed(replace(task, network=NETWORK.model_copy(update={"name": name, "width": 1.0})), epochs=1)
    own = Candidate(0, 0, 7, Genotype(0.4, (0.4,) * len(encoded_channels(name))))
    result = score(replace(task, checkpoints=tmp_path), own)
    assert result.status == "ok"
    assert trained[-1].built_with.network.name == name
    assert score(task, own) == result


def score_until(task, candidate, n_states, monkeypatch):
    """Train ``candidate`` until ``n_states`` states are kept, then stop."""
    real, left = proxy.train_epoch, iter(range(n_states - 1))

    def train_epoch(*arguments):
        *others, on_step = arguments

        def stop_on_step(mid_epoch):
            on_step(mid_epoch)
            if next(left, None) is None:
                raise KeyboardInterrupt

        return real(*others, stop_on_step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(proxy, "train_epoch", train_epoch)
        score(task, candidate)


def test_a_candidate_that_was_stopped_in_mid_epoch_ends_with_the_same_score(task, trained, tmp_path, monkeypatch):
    task = changed(task, epochs=3, whiten=True)
    whole = score(replace(task, checkpoints=tmp_path / "whole"), candidate())
    stopped = replace(task, checkpoints=tmp_path / "stopped", save_seconds=0.0)
    for n_states in (2, 2, 1):  # three epochs have six moments at which one is kept
        score_until(stopped, candidate(), n_states, monkeypatch)
    epochs, real = [], proxy.train_epoch
    monkeypatch.setattr(proxy, "train_epoch", lambda *a: (epochs.append(a[4]), real(*a))[1])
    assert score(stopped, candidate()) == whole
    assert epochs == [2]
    weights, expected = (net.state_dict() for net in (trained[-1], trained[0]))
    assert weights.keys() == expected.keys() and all(torch.equal(weights[name], expected[name]) for name in expected)


def test_the_state_of_another_wiring_in_the_same_place_is_not_used(task, first, tmp_path, monkeypatch):
    kept = replace(task, checkpoints=tmp_path, save_seconds=0.0)
    score_until(kept, candidate(sigma=0.3), 3, monkeypatch)
    assert score(kept, candidate()) == first


def test_a_candidate_with_a_price_has_its_energy_after_the_training_measured_too(task, first, trained):
    scored = score(task, replace(candidate(), price=Price(1, 1, 3, 1.0)))
    assert replace(scored, energy_uj=first.energy_uj) == first and math.isnan(first.energy_uj)
    data = load_prepared(task.prepared)
    activity = measure_energy(trained[-1].eval(), data.meta.normalise(data.holdout_images().images))
    assert scored.energy_uj == pytest.approx(1000 * activity.energy_mj(*task.pj), rel=1e-6)

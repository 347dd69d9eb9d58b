"""Scores of real candidates on a few images."""

import math
import pickle
import re
from dataclasses import replace
from statistics import fmean

import pytest
import torch
import torch.nn.functional as F

from gee_core.checkpoint import load
from gee_core.config.known_networks import encoded_channels
from gee_core.data.augment import Augment
from gee_core.data.prepared import load_prepared
from gee_core.evolution import proxy
from gee_core.evolution.candidate import Candidate, Failure, Score, failed
from gee_core.evolution.fitness import spatial_entropy, temporal_difference
from gee_core.evolution.loop import evolve
from gee_core.evolution.proxy import proxy_recipe, score
from gee_core.evolution.proxy_task import checkpoint_name
from gee_core.evolution.search_vector import SearchSpace
from gee_core.genome.encoding import genome_of
from gee_core.genome.genotype import Genotype
from gee_core.hardware import Compute
from tests.gee_core.evolution.proxy_task import NETWORK, candidate, changed, train_images


@pytest.fixture(scope="module")
def scores(task) -> list[Score]:
    """Of candidates 0, 1 and 2, one after the other in this process."""
    return [score(task, candidate(index)) for index in range(3)]


def test_candidates_of_a_generation_with_equal_genes_have_equal_scores(task):
    """Common random numbers: wiring, weights and the order of the images depend on the generation's seed alone."""
    searched, records = SearchSpace(("sigma_O", "sigma_X"), candidate(0).genotype, 4.0), []

    def note(candidates):
        records.extend(candidates)
        yield from ((c, failed("not scored"), 0.0) for c in candidates)

    evolve(task.evolve, searched, 7, note)
    first, other = records
    assert first.genotype != other.genotype
    assert score(task, replace(other, genotype=first.genotype)) == score(task, first)
    assert score(task, other) != score(task, first)


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
    measured = [L_ce.item(), R_T.item(), o_TBK.var(correction=0).item(), spatial_entropy(genome_of(net).O.detach()).item()]
    assert measured == pytest.approx([scores[0].L_ce, scores[0].R_T, scores[0].var_o, scores[0].R_S], rel=1e-5)
    assert scores[0].proxy_accuracy == (logits.argmax(1) == holdout.labels).double().mean().item()


def test_a_candidate_whose_statistics_overflow_is_a_failed_score(task):
    result = score(changed(task, lr=1e3), candidate(0, sigma=1e6))
    assert re.match(r"failed: FloatingPointError: \S+running_var holds values that are not finite after the tr", result.status)
    assert result.image_passes == score(task, candidate(0)).image_passes


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FloatingPointError("two\nlines"), Failure.DIVERGED),
        (torch.linalg.LinAlgError("it is singular"), Failure.DIVERGED),
        (RuntimeError("value cannot be converted to type float without overflow"), Failure.DIVERGED),
        (torch.OutOfMemoryError("of " + 1000 * "x"), Failure.GPU_MEMORY),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), Failure.GPU_MEMORY),
        (MemoryError("all of it"), Failure.MEMORY),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), Failure.CODE),
    ],
)
def test_an_error_in_training_is_a_failed_score_with_its_reason_on_one_short_line(error, kind, task, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(proxy, "train_epoch", fail)
    result = score(task, candidate(0))
    status = result.status
    assert result.failure is kind
    assert status.startswith(f"failed: {type(error).__name__}: ")
    assert "\n" not in status
    assert len(status) <= 500


def test_a_lost_gpu_is_no_candidates_fault(task, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(proxy, "train_epoch", fail)
    with pytest.raises(RuntimeError, match="unspecified launch failure"):
        score(task, candidate(0))


def test_an_error_of_the_networks_code_leaves_with_a_note_that_names_the_candidate(task, monkeypatch):
    def fail(*_):
        raise ValueError("no such layer")

    monkeypatch.setattr(proxy, "train_epoch", fail)
    with pytest.raises(ValueError, match="no such layer") as caught:
        score(task, replace(candidate(0), generation=3, index=2))
    note = f"in candidate 2 of generation 3, seed {candidate(0).seed}"
    assert pickle.loads(pickle.dumps(caught.value)).__notes__ == [note]  # as it comes from a worker


def test_test_images_never_reach_a_candidate(task, scores, make_prepared):
    other = replace(task, prepared=make_prepared(test_seed=99))
    assert not torch.equal(load_prepared(task.prepared).test.images, load_prepared(other.prepared).test.images)
    assert [score(other, candidate(index)) for index in range(3)] == scores


def test_holdout_images_are_never_trained_on_and_TSE_is_the_mean_loss_of_the_epochs(task, monkeypatch):
    seen, losses, real = [], [], proxy.train_epoch

    def noted(net, optimizer, images, *arguments):
        seen.append(images)
        losses.append((record := real(net, optimizer, images, *arguments)).train_loss)
        return record

    monkeypatch.setattr(proxy, "train_epoch", noted)
    assert score(task, candidate(0)).TSE == fmean(losses) != losses[0]
    data = load_prepared(task.prepared)
    trained, held_out = ({bytes(image.numpy()) for image in part} for part in (seen[0].images, data.holdout_images().images))
    assert len(trained) == len(data.train) - len(data.holdout) == 21
    assert not trained & held_out


def test_the_recipe_has_a_tenth_of_its_steps_as_warm_up_and_no_augmentation(task):
    meta = load_prepared(task.prepared).meta
    normalise, compute = meta.normalise, Compute.of("cpu", "fp32")
    recipe = proxy_recipe(changed(task, proxy_epochs=10).evolve, normalise, compute, 64, seed=1)
    assert (recipe.warmup_steps, recipe.augment, recipe.cfg.label_smoothing) == (8, Augment(0, False, 0, 0.0), 0.0)
    one, other = (proxy_recipe(task.evolve, normalise, compute, 8, seed) for seed in (1, 2))
    assert one.warmup_steps == 1
    assert one.seed != other.seed


def test_the_cost_is_the_images_that_were_seen_by_the_epochs_it_took(task, scores):
    n = len(train_images(task))
    seen = min(n, 8 * ((n + 4) // 8))  # a last batch that is less than half full waits
    assert {s.image_passes for s in scores} == {2 * seen}
    assert score(changed(task, proxy_images=16), candidate(0)).image_passes == 32
    diverged = score(changed(task, lr=1e30), candidate(0))
    assert re.match(r"failed: FloatingPointError: the training loss is \w+ in epoch \d", diverged.status)
    assert diverged.image_passes in (seen, 2 * seen) and math.isnan(diverged.L_ce)


def test_a_candidate_is_trained_as_evolve_says_and_scored_on_whole_images_and_all_steps(task, scores, monkeypatch):
    seen = []
    real = proxy.measure
    monkeypatch.setattr(
        proxy,
        "measure",
        lambda net, holdout, *a: (seen.append((net.T, holdout.image_size)), real(net, holdout, *a))[1],
    )
    found = score(changed(task, optimizer="muon", T_schedule=[1]), candidate(0))
    assert found.status == "ok" and found != scores[0]
    assert seen == [(NETWORK.T, 8)]


@pytest.mark.usefixtures("own")
def test_a_candidate_of_an_own_network_is_trained_measured_and_saved_with_equal_results(task, tmp_path):
    name = "networks.my:WithDropout"
    task = changed(replace(task, network=NETWORK.model_copy(update={"name": name, "width": 1.0})), proxy_epochs=1)
    own = Candidate(0, 0, 7, Genotype(0.4, (0.4,) * len(encoded_channels(name))))
    found = score(replace(task, checkpoints=tmp_path), own)
    assert found.status == "ok"
    assert load(tmp_path / checkpoint_name(own)).built_with["name"] == name
    assert score(task, own) == found

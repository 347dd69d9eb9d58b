from fractions import Fraction

import pytest
import torch

from gee_core.data.sources import load_source
from gee_core.data.splits import class_quotas, split_off, stratified_indices
from gee_core.errors import InputError
from tests.gee_core.data.test_sources import config

LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 17 + [4] * 3)[torch.randperm(100, generator=torch.manual_seed(0))]


@pytest.mark.parametrize("n", [4, 10, 33, 60, 99, 100])
def test_a_stratified_part_is_sorted_and_has_n_different_indices(n):
    indices = stratified_indices(LABELS, n, 0, "part")
    assert indices.dtype == torch.int64
    assert indices.tolist() == sorted(set(indices.tolist()))
    assert len(indices) == n
    assert indices[0] >= 0 and indices[-1] < 100


@pytest.mark.parametrize("n", [34, 50, 67, 99])
def test_every_class_is_within_one_image_of_its_share(n):
    kept = torch.bincount(LABELS[stratified_indices(LABELS, n, 0)], minlength=5)
    share = torch.bincount(LABELS, minlength=5) * n / 100
    assert ((kept - share).abs() < 1).all()


def test_a_rare_class_keeps_an_image_at_the_cost_of_the_most_favoured_one():
    assert class_quotas(torch.tensor([50, 30, 17, 0, 3]), 4).tolist() == [1, 1, 1, 0, 1]
    assert class_quotas(torch.tensor([97, 3]), 10).tolist() == [9, 1]


def test_quotas_are_those_of_the_largest_remainder_computed_with_fractions():
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        counts = torch.randint(20, 60, (6,), generator=generator)
        n = int(torch.randint(60, int(counts.sum()), (), generator=generator))
        exact = [Fraction(n * c, int(counts.sum())) for c in counts.tolist()]
        expected = [int(e) for e in exact]
        by_remainder = sorted(range(6), key=lambda k: (-(exact[k] - int(exact[k])), k))
        for k in by_remainder[: n - sum(expected)]:
            expected[k] += 1
        assert class_quotas(counts, n).tolist() == expected


def test_the_same_seed_and_purpose_give_the_same_part_and_others_another():
    part = stratified_indices(LABELS, 40, 3, "a").tolist()
    assert part == stratified_indices(LABELS, 40, 3, "a").tolist()
    assert part != stratified_indices(LABELS, 40, 4, "a").tolist()
    assert part != stratified_indices(LABELS, 40, 3, "b").tolist()


def test_every_image_of_a_class_is_equally_likely():
    labels = torch.tensor([0, 1] * 10)
    hits = torch.zeros(20)
    for seed in range(2000):
        hits[stratified_indices(labels, 10, seed)] += 1
    assert ((hits / 2000 - 0.5).abs() < 5 * 0.5 / 2000**0.5).all()  # five standard deviations of a fair draw


def test_more_images_than_there_are_is_an_input_error():
    with pytest.raises(InputError, match=r"^`proxy_images`: 101 images are wanted, but there are only 100"):
        stratified_indices(LABELS, 101, 0, "evolve.proxy_images")


def test_the_holdout_and_the_rest_both_show_every_class():
    labels = torch.tensor([0] * 40 + [1] * 2 + [2] * 8)
    holdout = split_off(labels, 0.2, 0, "abc", "holdout")
    rest = torch.ones(50, dtype=torch.bool).index_fill(0, holdout, False)
    assert len(holdout) == 10
    assert labels[holdout].unique().tolist() == labels[rest].unique().tolist() == [0, 1, 2]


def test_a_holdout_that_takes_a_class_whole_is_an_input_error_that_names_it():
    with pytest.raises(InputError, match=r"`holdout` = 0\.9: leaves class 'dog' no image to train on"):
        split_off(torch.tensor([0, 0, 0, 0, 1, 1]), 0.9, 0, ["cat", "dog"], "holdout")


def test_a_share_too_small_for_the_classes_is_an_input_error_that_names_the_knob():
    with pytest.raises(InputError, match=r"^`holdout` = 0\.01: 1 of 100 images cannot show all 4 classes: raise it"):
        split_off(LABELS, 0.01, 0, "abcd", "holdout")


@pytest.mark.parametrize(("share", "reason"), [(0.9999, "leaves class '0' no image"), (0.0001, "0 of 1797 images cannot show")])
def test_a_test_share_that_digits_cannot_have_is_an_input_error_that_names_it(share, reason):
    with pytest.raises(InputError, match=rf"^`test_share` = {share}: {reason}"):
        load_source(config(dataset="digits", test_share=share))


def test_the_test_images_of_digits_are_those_of_every_version_before():
    from sklearn.datasets import load_digits

    labels = torch.from_numpy(load_digits().target)
    test = stratified_indices(labels, 359, 0, "digits", "test")
    assert load_source(config(dataset="digits")).test.labels.tolist() == labels[test].tolist()

from fractions import Fraction

import pytest
import torch

from gee_core.data.splits import class_quotas, split, stratified_indices
from gee_core.errors import InputError
from tests.gee_core.data.conftest import config

LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 17 + [4] * 3)[torch.randperm(100, generator=torch.manual_seed(0))]


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


def test_the_same_purpose_gives_the_same_part_and_another_one_another():
    part = stratified_indices(LABELS, 40, "a").tolist()
    assert part == stratified_indices(LABELS, 40, "a").tolist() == stratified_indices(LABELS, 40, "b", "a").tolist()
    assert part != stratified_indices(LABELS, 40, "b").tolist()


def test_the_holdout_and_the_rest_both_show_every_class():
    labels = torch.tensor([0] * 40 + [1] * 2 + [2] * 8)
    holdout = split(config(), "abc", labels, test=labels).holdout
    rest = torch.ones(50, dtype=torch.bool).index_fill(0, holdout, False)
    assert len(holdout) == 10
    assert labels[holdout].unique().tolist() == labels[rest].unique().tolist() == [0, 1, 2]


def test_a_holdout_that_takes_a_class_whole_is_an_input_error_that_names_it():
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    with pytest.raises(InputError, match=r"holdout = 0\.9: leaves class 'dog' no image to train on: add images"):
        split(config(holdout=0.9), ["cat", "dog"], labels, test=labels)
    with pytest.raises(InputError, match=r"^prepare.holdout: 1 of 6 images cannot show all 2 classes: ask for more"):
        split(config(), ["cat", "dog"], labels, test=labels)

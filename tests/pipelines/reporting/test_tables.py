"""The tables of mistakes, and of the published networks against the networks that we build."""

import pandas as pd
import pytest
import torch

from gee_core.config.known_networks import default_block
from gee_core.model.network import build_network, count_parameters, count_plain_parameters
from pipelines.figures.measurements import confusion_counts
from pipelines.reporting.tables import PAPER_RESULTS, confusions, recognised

TABLE = pd.DataFrame({"actual": list("aabbbc"), "predicted": list("abccac")})


def test_the_images_are_counted_by_actual_and_predicted_class():
    assert confusion_counts(TABLE, ["a", "b", "c"]).tolist() == [[1, 1, 0], [1, 0, 2], [0, 0, 1]]


def test_mistakes_are_ordered_by_number():
    worst = {"actual": "b", "predicted": "c", "count": 2, "of": 3}
    assert confusions(TABLE, ["a", "b", "c"]) == [
        worst,
        {"actual": "a", "predicted": "b", "count": 1, "of": 2},
        {"actual": "b", "predicted": "a", "count": 1, "of": 3},
    ]
    assert confusions(TABLE, ["a", "b", "c"], most=1) == [worst]
    assert confusions(TABLE.assign(predicted=TABLE["actual"]), ["a", "b", "c"]) == []


def test_the_least_recognised_class_comes_first_and_one_without_images_is_left_out():
    assert recognised(TABLE, ["a", "b", "none", "c"]) == [
        {"name": "b", "share": 0.0, "of": 3, "mistake": "c"},
        {"name": "a", "share": 0.5, "of": 2, "mistake": "b"},
        {"name": "c", "share": 1.0, "of": 1, "mistake": None},
    ]


@pytest.mark.parametrize("row", PAPER_RESULTS, ids=lambda row: f"{row['network']}-{row['n_genes']}")
def test_published_rows_name_known_networks_and_the_counts_we_build(row):
    name = row["network"]
    images = (1000, 3, 224) if name == "resnet34" else (10, 3, 32)
    block = "post" if default_block(name) else None
    with torch.device("meta"):
        count = count_parameters(build_network(name, *images, row["n_genes"], block=block))
    printed = pytest.approx(count, rel=2e-3) if name == "resnet34" else count  # the paper prints 10.75M
    assert row["parameters"] == printed
    assert row["plain_parameters"] == count_plain_parameters(name, *images, block=block)

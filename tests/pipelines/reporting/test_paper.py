"""The published numbers against the networks that we build."""

import pytest
import torch

from gee_core.config.known_networks import default_block
from gee_core.model.network import build_network, count_parameters, count_plain_parameters
from pipelines.reporting.paper import PAPER_RESULTS, PLAIN_PARAMETERS

SIZES = {name: (1000, 3, 224) if name == "resnet34" else (10, 3, 32) for name in PLAIN_PARAMETERS}


def block(name):
    return "post" if default_block(name) else None


@pytest.mark.parametrize("row", PAPER_RESULTS, ids=lambda row: f"{row['network']}-{row['n_genes']}")
def test_published_rows_name_known_networks_and_the_counts_we_build(row):
    name = row["network"]
    with torch.device("meta"):
        count = count_parameters(build_network(name, *SIZES[name], row["n_genes"], block=block(name)))
    printed = pytest.approx(count, rel=2e-3) if name == "resnet34" else count  # the paper prints 10.75M
    assert row["parameters"] == printed


@pytest.mark.parametrize("name", PLAIN_PARAMETERS)
def test_the_unencoded_network_has_the_size_that_stands_beside_them(name):
    assert PLAIN_PARAMETERS[name] == count_plain_parameters(name, *SIZES[name], block=block(name))

"""One seed → independent named generators."""

import numpy as np
import torch
from scipy import stats

from gee_core.seeding import derive_seed, private_torch_rng, torch_generator


def test_derive_seed_is_half_of_the_first_eight_sha256_bytes_of_seed_and_names():
    # printf '0/evolve/3' | sha256sum, first 16 hex digits, halved: a change here changes every published run.
    assert derive_seed(0, "evolve", 3) == 0xADF1C6109407B7ED >> 1


def test_every_seed_name_and_position_gives_its_own_seed():
    purposes = [(s, *names) for s in range(20) for names in [(), ("data",), ("init",), ("noise", 0), ("noise", 1), (0,)]]
    purposes += [(0, "noise", 0, 1), (0, 1, "noise", 0), (0, "noise", 10)]
    seeds = {derive_seed(*purpose) for purpose in purposes}
    assert len(seeds) == len(set(purposes))


def test_generators_of_neighbouring_purposes_are_uncorrelated_and_uniform():
    draws = np.stack([torch.rand(4000, generator=torch_generator(0, "epoch", n)).numpy() for n in range(5)])
    off_diagonal = np.corrcoef(draws)[~np.eye(5, dtype=bool)]
    assert np.abs(off_diagonal).max() < 4 / np.sqrt(4000)  # four standard errors
    assert stats.kstest(draws.ravel(), "uniform").pvalue > 0.01


def test_private_torch_rng_starts_at_its_seed_and_restores_the_callers_state():
    torch.manual_seed(123)
    torch.rand(5)  # somewhere in the middle of a sequence
    before = torch.get_rng_state()
    with private_torch_rng(9):
        inside = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(inside, torch.rand(4, generator=torch.Generator().manual_seed(9)))

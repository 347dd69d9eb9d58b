"""Muon, beside torch's own where that can be used: on single matrices."""

import pytest
import torch
from torch import nn

from gee_core.genome.encoding import genome_of
from gee_core.model.base import SpikingNetwork
from gee_core.model.network import build_network
from gee_core.training.muon import Muon, orthogonalised
from gee_core.training.optimizers import make_optimizer, set_lr


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(8, 8), (20, 5), (5, 20), (3, 6, 4), (2, 3, 4, 9)])
def test_the_singular_values_become_about_one_and_the_singular_vectors_stay(shape):
    A = drawn(*shape)
    found = orthogonalised(A)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6 and values.max() < 1.3
    U, _, Vh = torch.linalg.svd(A, full_matrices=False)
    inner = U.mT @ found @ Vh.mT
    torch.testing.assert_close(inner, torch.diag_embed(inner.diagonal(dim1=-2, dim2=-1)), atol=1e-4, rtol=0)


class Matrices(nn.Module):
    """A stack, a kernel and a matrix, or the same numbers as single matrices."""

    def __init__(self, single: bool):
        super().__init__()
        stack, kernel, matrix = drawn(2, 6, 4), drawn(5, 2, 3, 3), drawn(4, 4)
        parts = [*stack, kernel.flatten(1), matrix] if single else [stack, kernel, matrix]
        self.parts = nn.ParameterList(nn.Parameter(part.clone()) for part in parts)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon is of torch 2.9")
def test_it_takes_torchs_steps_on_every_matrix():
    single, ours = Matrices(single=True), Matrices(single=False)
    torchs = torch.optim.Muon(single.parameters(), lr=0.1, weight_decay=0.2, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    rest = torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    mine = Muon([{"params": list(ours.parameters()), "weight_decay": 0.2, "lr": 0.1}], rest, 0.9)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        for p in ours.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        stack, kernel, matrix = (p.grad for p in ours.parameters())
        for p, grad in zip(single.parameters(), [*stack, kernel.flatten(1), matrix], strict=True):
            p.grad = grad.clone()
        torchs.step()
        mine.step()
    stack, kernel, matrix = ours.parameters()
    for found, expected in zip([*stack, kernel.flatten(1), matrix], single.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=0.02, rtol=0)  # torch's iterates in bfloat16


@pytest.mark.parametrize("n_genes", [3, None], ids=["genetic", "plain"])
def test_genes_and_kernels_behind_the_first_are_its_and_the_rest_is_adamws(n_genes):
    net = build_network("resnet18", 3, 1, 8, n_genes, 1 / 32)
    optimizer = make_optimizer("muon", net, 0.1, 0.9)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    set_lr(optimizer, 0.1)
    optimizer.step()
    names = {id(p): name for name, p in net.named_parameters()}
    its = {names[id(p)] for p, state in optimizer.state.items() if "average" in state}
    genome = genome_of(net)
    expected = {names[id(p)] for p in [*genome.encodings(), genome.O]} if genome is not None else set()
    expected |= {name for name, p in net.named_parameters() if p.ndim == 4 and not name.startswith("stem")}
    assert its == expected and len(its) > 3
    adamws = {names[id(p)] for p, state in optimizer.state.items() if "exp_avg" in state}
    assert adamws == set(names.values()) - its


class StemLast(SpikingNetwork):
    """A user's network that registers its stem behind another convolution."""

    def __init__(self):
        super().__init__(1)
        self.hidden, self.stem = nn.Conv2d(2, 2, 1), nn.Conv2d(1, 2, 1)

    def conv_chain(self):
        return [self.stem, self.hidden]


def test_the_stem_is_the_first_convolution_to_run_not_the_first_to_be_registered():
    net = StemLast()
    optimizer = make_optimizer("muon", net, 0.1, 0.9)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    set_lr(optimizer, 0.1)
    optimizer.step()
    assert "average" in optimizer.state[net.hidden.weight]
    assert "exp_avg" in optimizer.state[net.stem.weight]

"""What decays and at which rate every parameter learns, and Muon beside torch's own where that can be used: single matrices."""

import pytest
import torch
from torch import nn

from gee_core.genome.encoding import genome_of
from gee_core.model.base import SpikingNetwork
from gee_core.model.network import build_network
from gee_core.training.optimizers import Muon, make_optimizer, orthogonalise, set_lr

NETWORKS = pytest.mark.parametrize("n_genes", [3, None], ids=["genetic", "plain"])


def stepped(name, net, gradient=torch.ones_like, lr=0.1, **settings):
    """The optimiser after a step at the rate ``lr`` along what ``gradient`` makes of each parameter."""
    optimizer = make_optimizer(name, net, **({"weight_decay": 0.1, "momentum": 0.9} | settings))
    for p in net.parameters():
        p.grad = gradient(p)
    set_lr(optimizer, lr)
    optimizer.step()
    return optimizer


@NETWORKS
def test_genes_and_kernels_decay_and_biases_and_batch_norm_do_not(n_genes):
    net = build_network("resnet18", 3, 1, 8, n_genes, 1 / 32)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    stepped("adamw", net, torch.zeros_like, weight_decay=0.5)
    free = {f"{module}.weight" for module, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    free |= {name for name in before if name.endswith("bias")}
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] * (1.0 if name in free else 0.95))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_equals_torchs_with_nesterovs_momentum_step_for_step(momentum):
    net, other = (build_network("vgg16", 3, 1, 8, 3, 1 / 32) for _ in range(2))
    groups = [
        {"params": [p for p in other.parameters() if (p.ndim > 1) == decayed], "weight_decay": 0.1 * decayed}
        for decayed in (True, False)
    ]
    ours = make_optimizer("sgd", net, 0.1, momentum)
    torchs = torch.optim.SGD(groups, lr=0.0, momentum=momentum, nesterov=momentum > 0)
    generator = torch.Generator().manual_seed(0)
    for step in range(4):
        for p, q in zip(net.parameters(), other.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        for optimizer in (ours, torchs):
            for group in optimizer.param_groups:
                group["lr"] = 0.1 / (step + 1)
            optimizer.step()
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("gene", ["X", "O"])
def test_a_factor_of_a_half_halves_the_step_of_its_gene_and_of_nothing_else(gene, name):
    before, full, half = (build_network("resnet18", 3, 1, 8, 3, 1 / 32) for _ in range(3))
    for net, factors in ((full, {}), (half, {f"lr_{gene}": 0.5})):
        generator = torch.Generator().manual_seed(0)
        stepped(name, net, lambda p, generator=generator: torch.randn(p.shape, generator=generator), 0.125, **factors)
    genome = genome_of(full)
    genes = {id(p) for p in ([genome.O] if gene == "O" else genome.encodings())}
    for key, p in full.named_parameters():
        start = before.get_parameter(key).detach()
        step, other = p.detach() - start, half.get_parameter(key).detach() - start
        if id(p) in genes:
            torch.testing.assert_close(other, 0.5 * step, rtol=1e-4, atol=1e-6)
        else:
            assert torch.equal(other, step)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(20, 5), (5, 20), (2, 3, 4, 9)])
def test_the_singular_values_become_about_one_and_the_singular_vectors_stay(shape):
    A = drawn(*shape)
    near = orthogonalise(A)
    values = torch.linalg.svdvals(near)
    assert values.min() > 0.6 and values.max() < 1.3
    U, _, Vh = torch.linalg.svd(A, full_matrices=False)
    inner = U.mT @ near @ Vh.mT
    torch.testing.assert_close(inner, torch.diag_embed(inner.diagonal(dim1=-2, dim2=-1)), atol=1e-4, rtol=0)


def matrices(parameters: list[nn.Parameter]) -> list[torch.Tensor]:
    """The single matrices of a stack, a kernel and a matrix, and of their gradients."""
    stack, kernel, matrix = parameters
    return [*stack, kernel.flatten(1), matrix]


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon is of torch 2.9")
def test_muon_takes_torchs_steps_on_every_matrix():
    ours = [nn.Parameter(drawn(*shape)) for shape in ((2, 6, 4), (5, 2, 3, 3), (4, 4))]
    single = [nn.Parameter(matrix.detach().clone()) for matrix in matrices(ours)]
    torchs = torch.optim.Muon(single, lr=0.1, weight_decay=0.2, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    rest = torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    mine = Muon([{"params": ours, "weight_decay": 0.2, "lr": 0.1}], rest, 0.9)
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        for p in ours:
            p.grad = torch.randn(p.shape, generator=generator)
        for p, grad in zip(single, matrices([p.grad for p in ours]), strict=True):
            p.grad = grad.clone()
        torchs.step()
        mine.step()
    for matrix, expected in zip(matrices(ours), single, strict=True):
        torch.testing.assert_close(matrix, expected, atol=0.02, rtol=0)  # torch's iterates in bfloat16


@NETWORKS
def test_muon_takes_genes_and_kernels_behind_the_first_and_adamw_the_rest(n_genes):
    net = build_network("resnet18", 3, 1, 8, n_genes, 1 / 32)
    optimizer = stepped("muon", net)
    names = {id(p): name for name, p in net.named_parameters()}
    its, adamws = ({names[id(p)] for p, s in optimizer.state.items() if key in s} for key in ("average", "exp_avg"))
    genome = genome_of(net)
    expected = {names[id(p)] for p in [*genome.encodings(), genome.O]} if genome is not None else set()
    expected |= {name for name, p in net.named_parameters() if p.ndim == 4 and not name.startswith("stem")}
    assert its == expected and len(its) > 3
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
    optimizer = stepped("muon", net)
    assert "average" in optimizer.state[net.hidden.weight]
    assert "exp_avg" in optimizer.state[net.stem.weight]

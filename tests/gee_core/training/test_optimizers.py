import pytest
import torch
from torch import nn

from gee_core.genome.encoding import genome_of
from gee_core.model.network import build_network
from gee_core.training.optimizers import make_optimizer, set_lr

NAMES = pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
NETWORKS = pytest.mark.parametrize("n_genes", [3, None], ids=["genetic", "plain"])


@NETWORKS
def test_genes_and_kernels_decay_and_biases_and_batch_norm_do_not(n_genes):
    net = build_network("resnet18", 3, 1, 8, n_genes, 1 / 32)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer = make_optimizer("adamw", net, weight_decay=0.5)
    set_lr(optimizer, 0.1)
    optimizer.step()
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


def stepped(name, **factors):
    """A network after a step along fixed gradients, and as it was before."""
    net = build_network("resnet18", 3, 1, 8, 3, 1 / 32)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = make_optimizer(name, net, 0.1, 0.9, **factors)
    generator = torch.Generator().manual_seed(0)
    for p in net.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
    set_lr(optimizer, 0.125)
    optimizer.step()
    return net, before


@NAMES
@pytest.mark.parametrize("gene", ["X", "O"])
def test_a_factor_of_a_half_halves_the_step_of_its_gene_and_of_nothing_else(gene, name):
    full, before = stepped(name)
    half, _ = stepped(name, **{f"lr_{gene}": 0.5})
    genome = genome_of(full)
    genes = {id(p) for p in ([genome.O] if gene == "O" else genome.encodings())}
    for key, p in full.named_parameters():
        step, other = p.detach() - before[key], half.get_parameter(key).detach() - before[key]
        if id(p) in genes:
            torch.testing.assert_close(other, 0.5 * step, rtol=1e-4, atol=1e-6)
        else:
            assert torch.equal(other, step)

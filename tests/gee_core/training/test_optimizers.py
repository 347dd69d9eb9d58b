import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from gee_core.genome.encoding import genome_of
from gee_core.model.network import build_network
from gee_core.training import optimizers
from gee_core.training.optimizers import Plasticity, adamw, make_optimizer, muon, set_lr, sgd


@pytest.mark.parametrize("n_genes", [3, None], ids=["genetic", "plain"])
def test_genes_and_kernels_decay_and_biases_and_batch_norm_do_not(n_genes):
    net = build_network("resnet18", 3, 1, 8, n_genes, 1 / 32)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer = adamw(net, weight_decay=0.5)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    free = {name for module, m in net.named_modules() if isinstance(m, nn.BatchNorm2d) for name in (f"{module}.weight",)}
    free |= {name for name in before if name.endswith("bias")}
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] * (1.0 if name in free else 0.95))
    if n_genes:
        decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
        assert {id(p) for p in [genome_of(net).O, *genome_of(net).encodings()]} <= decayed


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("n_genes", [3, None], ids=["genetic", "plain"])
def test_every_parameter_is_optimised_exactly_once(name, n_genes):
    net = build_network("resnet18", 3, 1, 8, n_genes, 1 / 32)
    optimised = [id(p) for group in make_optimizer(name, net, 0.01, 0.9).param_groups for p in group["params"]]
    assert sorted(optimised) == sorted(map(id, net.parameters()))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_equals_torchs_with_nesterovs_momentum_step_for_step(momentum):
    net = build_network("vgg16", 3, 1, 8, 3, 1 / 32)
    other = build_network("vgg16", 3, 1, 8, 3, 1 / 32)
    decays = {name: p.ndim > 1 for name, p in other.named_parameters()}
    groups = [
        {"params": [p for name, p in other.named_parameters() if decays[name] == decayed], "weight_decay": 0.1 * decayed}
        for decayed in (True, False)
    ]
    ours, torchs = sgd(net, 0.1, momentum), torch.optim.SGD(groups, lr=0.0, momentum=momentum, nesterov=momentum > 0)
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


def of(net):
    """Which gene every parameter is: X, O, or none."""
    genome = genome_of(net)
    genes = {id(genome.O): "O"} | {id(p): "X" for p in genome.encodings()}
    return {name: genes.get(id(p)) for name, p in net.named_parameters()}


def stepped(optimizer, n_steps=1, lr=0.125, **arguments):
    """A network after steps along fixed gradients, and as it was before."""
    net = build_network("resnet18", 3, 1, 8, 3, 1 / 32)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = optimizer(net, **arguments)
    generator = torch.Generator().manual_seed(0)
    for _ in range(n_steps):
        for p in net.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        set_lr(optimizer, lr)
        optimizer.step()
    return net, before


OPTIMIZERS = pytest.mark.parametrize(
    ("optimizer", "arguments"),
    [
        (adamw, {"weight_decay": 0.1}),
        (sgd, {"weight_decay": 0.1, "momentum": 0.9}),
        (muon, {"weight_decay": 0.1, "momentum": 0.9}),
    ],
    ids=["adamw", "sgd", "muon"],
)


@OPTIMIZERS
@pytest.mark.parametrize("gene", ["X", "O"])
def test_a_factor_of_a_half_halves_the_step_of_its_gene_and_of_nothing_else(gene, optimizer, arguments):
    full, before = stepped(optimizer, **arguments)
    half, _ = stepped(optimizer, **arguments, plasticity=Plasticity(**{gene: 0.5}))
    kinds = of(full)
    assert set(kinds.values()) == {"X", "O", None}
    for name, p in full.named_parameters():
        step, other = p.detach() - before[name], half.get_parameter(name).detach() - before[name]
        if kinds[name] == gene:
            torch.testing.assert_close(other, 0.5 * step, rtol=1e-4, atol=1e-6)
        else:
            assert torch.equal(other, step)


def test_factors_of_one_are_torchs_optimiser_without_groups_for_genes_bit_for_bit():
    ours, _ = stepped(adamw, 3, weight_decay=0.1, plasticity=Plasticity(1.0, 1.0))

    def two_groups(net):
        parameters = list(net.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([group | {"lr_factor": 1.0} for group in groups], fused=True)

    torchs, _ = stepped(two_groups, 3)
    assert all(torch.equal(p, torchs.get_parameter(name)) for name, p in ours.named_parameters())


@OPTIMIZERS
def test_a_plain_network_has_no_plasticity(optimizer, arguments):
    net = build_network("vgg16", 3, 1, 8, None, 1 / 32)
    groups = optimizer(net, **arguments, plasticity=Plasticity(0.1, 0.2)).param_groups
    assert {group["lr_factor"] for group in groups} == {1.0}


def fitted(optimiser) -> list[torch.Tensor]:
    """Parameters and state after a few steps, in the middle of which the state was saved and loaded."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    used = optimiser(net)
    for _ in range(4):
        used.zero_grad()
        net(torch.randn(8, 5)).square().mean().backward()
        set_lr(used, 0.1)
        used.step()
        used.load_state_dict(used.state_dict())
    return [*net.parameters(), *(value for state in used.state.values() for value in state.values() if value is not None)]


@pytest.mark.parametrize(
    "optimiser",
    [lambda net: adamw(net, 0.1), lambda net: sgd(net, 0.1, 0.9), lambda net: muon(net, 0.1, 0.9)],
    ids=["adamw", "sgd", "muon"],
)
def test_without_the_compilers_decorators_an_optimiser_takes_torchs_steps_bit_for_bit(optimiser, monkeypatch):
    found = fitted(optimiser)
    monkeypatch.setattr(optimizers, "_without_compiler", lambda kind: kind)
    expected = fitted(optimiser)
    assert len(found) == len(expected) > 4
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not any(value.requires_grad for value in found[4:])


def test_a_training_step_loads_no_compiler():
    code = (
        "import sys, torch\n"
        "from torch import nn\n"
        "from gee_core.training.optimizers import adamw\n"
        "net = nn.Linear(2, 1)\n"
        "optimiser = adamw(net, 0.1)\n"
        "net(torch.ones(1, 2)).sum().backward()\n"
        "optimiser.step(), optimiser.zero_grad(), optimiser.load_state_dict(optimiser.state_dict())\n"
        "print('torch._dynamo' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=600)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_genes_of_a_network_inside_another_module_learn_at_their_own_rates(name):
    net = build_network("resnet18", 3, 1, 8, 3, 1 / 32)
    wrapped = nn.Sequential(net, nn.Flatten())
    optimizers_ = [make_optimizer(name, module, 0.01, 0.9, Plasticity(X=0.5, O=0.1)) for module in (net, wrapped)]
    of_each = [
        sorted((group["lr_factor"], id(p)) for group in optimizer.param_groups for p in group["params"])
        for optimizer in optimizers_
    ]
    assert of_each[0] == of_each[1]
    assert {factor for factor, _ in of_each[1]} == {1.0, 0.5, 0.1}

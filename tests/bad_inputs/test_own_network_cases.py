"""`network.name` of an own network: what the file is, what is in it, and what it builds."""

import pytest

from gee_core.config.known_networks import OWN
from pipelines.inputs import own_network
from tests.bad_inputs.case import Case, param, row, write

GOOD = """\
import torch
from spikingjelly.activation_based import neuron
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes, in_channels, image_size, T):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(in_channels, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.lif1, self.lif2 = neuron.LIFNode(), neuron.LIFNode()
        self.head, self.T = nn.Linear(6, num_classes), T

    def step(self, x):
        return self.head(self.lif2(self.conv2(self.lif1(self.conv1(x)))).mean((-2, -1)))

    def forward(self, x):
        return torch.stack([self.step(x) for _ in range(self.T)])
"""
STUDY = "gee study run tiny --set"
FILE, NAME = "networks/my_net.py", "networks.my_net:Net"


def spoilt(old: str, new: str, says: str, remedy: str = "what a network must offer", run: str = "evolve") -> Case:
    assert old in GOOD
    return row(run, says, remedy, write(FILE, GOOD.replace(old, new, 1)), param("network.name", NAME))


def named(value: str, says: str, remedy: str, run: str = "evolve") -> Case:
    change = (write(FILE, GOOD), write("elsewhere/net.py", GOOD), param("network.name", value))
    return row(run, f"network.name = {says}", remedy, *change)


CASES = [
    named("elsewhere.net:Net", "elsewhere.net:Net: not in the folder networks/", "copy the module"),
    named("networks.mynet:Net", "networks.mynet:Net: networks/mynet.py: no such file", "did you mean networks.my_net?"),
    named("networks.other:A", "networks.other:A: networks/other.py: no such file", "git add", run="gee run"),
    named("vgg16", "networks.o:A: networks/o.py: no such file", "git add", f"{STUDY} network.name=networks.o:A"),
    named("networks.my_net:Nett", "networks.my_net:Nett: networks/my_net.py has no Nett", "did you mean Net?"),
    named("networks.my_net:nn", "networks.my_net:nn: a module is no class", "must offer"),
    row(
        "evolve",
        "evolve.genes = ['neurons'] searches v_threshold, which networks.my_net:Net does not take",
        "give it an argument v_threshold, or leave the gene out",
        write(FILE, GOOD),
        param("network.name", NAME),
        param("evolve.genes", "[neurons]"),
    ),
    named("networks.my_net", "'networks.my_net': unknown network", "networks.my_vgg:MyVGG"),
    spoilt("class Net", "klass Net", "networks/my_net.py raises SyntaxError: invalid syntax (my_net.py, line 6)", "fix it"),
    spoilt("class Net", "raise SystemExit\nclass Net", "networks/my_net.py, line 6 raises SystemExit", "fix it"),
    spoilt("from torch", "import nowhere\nfrom torch", "ModuleNotFoundError: No module named 'now", "fix"),
    row(
        "evolve",
        "networks/my_net.py, line 1 raises ModuleNotFoundError: No module named 'helpers'",
        "write `from networks.helpers import …`",
        write(FILE, f"from helpers import lif\n{GOOD}"),
        write("networks/helpers.py", "lif = None\n"),
        param("network.name", NAME),
    ),
    spoilt("self.lif1,", "1 / 0; self.lif1,", "raises ZeroDivisionError: division by zero"),
    spoilt("class Net(nn.Module):", "def Net(**sizes): return 3\nclass N(nn.Module):", "returns a int, not a torch"),
    spoilt("range(self.T)", "range(7)", "network.T = 2, but", "set network.T = 7"),
    spoilt("(6, num_classes)", "(6, 3)", "it returns (2, 3, 3), not (T, B, K) = (2, 3, 10)"),
    spoilt("torch.stack([self.step(x) for _ in range(self.T)])", "self.step(x)", "let it return the output of"),
    spoilt(".mean((-2, -1)))", ".mean((-2, -1))).bfloat16()", "it returns torch.bfloat16: let its forward end with"),
    spoilt("nn.Conv2d(4, 6, 3, padding=1)", "nn.Conv2d(4, 6, 1)", "a chain needs the stem"),
]


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(own_network, "_imported", {})
    before = dict(OWN)
    yield
    OWN.clear()
    OWN.update(before)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_refused_before_any_work(case, refuses):
    refuses(case)

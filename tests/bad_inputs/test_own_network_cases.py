"""An own network: what its file is, what is in it, and what it builds."""

import sys

import pytest

from gee_core.config.network import OWN
from pipelines.inputs import own_network
from tests.bad_inputs.case import Case, params, row, write

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


FILE, NAME = "networks/my_net.py", "networks.my_net:Net"


def spoilt(old: str, new: str, says: str, remedy: str = "what a network must offer") -> Case:
    assert old in GOOD
    return row("evolve", says, remedy, write(FILE, GOOD.replace(old, new, 1)), params(network={"name": NAME}))


CASES = [
    spoilt("class Net", "class Nett", "networks.my_net:Net: networks/my_net.py has no Net", "did you mean Nett?"),
    spoilt("class Net", "raise SystemExit\nclass Net", "networks/my_net.py, line 6 raises SystemExit", "fix it"),
    spoilt("(6, num_classes)", "(6, 3)", "it returns (2, 3, 3), not (T, B, K) = (2, 3, 10)"),
]


def forget() -> None:
    """Forget the imports of networks/, as a process that starts anew."""
    own_network._imported.clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "networks"]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What a test registers and imports is forgotten after it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # whose check of a file's time misses edits within a second
    before = dict(OWN)
    yield
    OWN.clear()
    OWN.update(before)
    forget()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_refused_before_any_work(case: Case, refuses):
    refuses(case)

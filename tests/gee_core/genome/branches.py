"""The network that the tests of encoding share."""

import torch
from torch import nn

from gee_core.genome.encoding import encode

G = 5


class Branches(nn.Module):
    """A user's own network: convolutions in two branches, declared out of their order of execution."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(6, 7, 3, padding=1)
        self.trunk = nn.ModuleDict({"b": nn.Conv2d(4, 6, 3, padding=1), "a": nn.Conv2d(4, 4, 3, padding=1)})
        self.stem = nn.Conv2d(3, 4, 5, padding=2)
        self.skip = nn.Conv2d(4, 6, 1, bias=False)
        self.grouped = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.unused = nn.Conv2d(6, 6, 3)
        self.norm = nn.BatchNorm2d(7)
        self.head = nn.Linear(7, 2)

    def chain(self):
        return [self.stem, self.trunk["a"], self.trunk["b"], self.last]

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        x = torch.tanh(self.trunk["b"](torch.tanh(self.trunk["a"](x))) + self.skip(x))
        return self.head(self.norm(self.last(x + self.grouped(x))).mean((2, 3)))


def branches(dtype=torch.float64, seed=0, encoded=True):
    torch.manual_seed(seed)
    net = Branches().to(dtype).eval()
    if encoded:
        return encode(net, G, convs=net.chain(), seed=seed)
    return net


def images(dtype=torch.float64, n=2):
    return torch.randn(n, 3, 6, 6, generator=torch.Generator().manual_seed(1)).to(dtype)

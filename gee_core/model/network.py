"""The networks of the table, genetically encoded or plain by one argument.

Shapes: T steps, B batch, C channels, H W space, K classes. Steps are folded into the batch, step-major: (T*B, C, H, W).
"""

import math
from functools import partial

import torch
from torch import Tensor, nn

from gee_core.config.network import is_own
from gee_core.genome.encoding import attach_genome, genome_of
from gee_core.model.base import Architecture, SpikingNetwork, settings_of, to_channels_last
from gee_core.model.layers import BasicBlock, ConvLayer, PreActivationBlock, ResidualStream, Stem, StepDropout
from gee_core.model.own import own_network
from gee_core.seeding import check_seed, private_torch_rng
from gee_core.snn.lif import make_neurons
from gee_core.zoo import NETWORKS, Block, Dropout, P


class TableNetwork(SpikingNetwork):
    """A network of the table."""

    changes_T = True

    def __init__(self, architecture: Architecture):
        network, size = architecture.network, architecture.image_size
        super().__init__(network.T, architecture)
        spec, neurons = NETWORKS[network.name].scaled(network.width, network.tilt), partial(make_neurons, network)
        C, block = spec.stem, network.block
        self.stem = Stem(architecture.in_channels, C, spec.kernel, spec.imagenet_stem, None if block == "pre" else neurons)
        if spec.imagenet_stem:
            size = math.ceil(math.ceil(size / 2) / 2)
        body: list[nn.Module] = []
        for layer in spec.body:
            if isinstance(layer, str):  # P or A
                if size > 1:  # Paper: 32x32 images only. Here: smaller ones skip the pools they have no pixels for.
                    body.append(nn.MaxPool2d(2) if layer == P and network.pool == "max" else nn.AvgPool2d(2))
                    size //= 2
            elif isinstance(layer, Dropout):
                body.append(StepDropout(layer.p, self.T))
            elif isinstance(layer, Block):
                channels = layer.channels
                residual = PreActivationBlock if block == "pre" else BasicBlock
                body.append(residual(C, channels, spec.kernel, layer.stride, neurons))
                C, size = channels, math.ceil(size / layer.stride)
            else:
                body.append(ConvLayer(C, layer, spec.kernel, neurons))
                C = layer
        # Paper: silent about batch norm. Here: pre-activation, the residual block of the authors' framework, fits its parameter
        # counts as well as `post`, which is kept.
        self.body = ResidualStream(body, C) if block == "pre" else nn.Sequential(*body)
        # Paper: a flattened head sees 2x2 positions at 32x32. Here: larger images are averaged down to the same 2x2.
        side = min(size, 2) if spec.flatten else 1
        self.pool = nn.AdaptiveAvgPool2d(side)
        features = C * side * side
        head: list[nn.Module] = []
        if spec.hidden is not None:
            hidden = nn.Linear(features, spec.hidden)
            head += [hidden, neurons()]
            features = hidden.out_features
        self.head = nn.Sequential(*head, nn.Linear(features, architecture.num_classes))
        drawn = [module.weight for module in self.modules() if isinstance(module, nn.Conv2d)]
        if spec.hidden is not None:
            # Paper: silent. Here: He's too, because with torch's default no hidden neuron fires before it is trained.
            drawn.append(hidden.weight)
        for weight in drawn:
            if not weight.is_meta:  # torch would load its compiler
                nn.init.kaiming_normal_(weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        changes = x.ndim == 5
        if changes and len(x) != self.T:
            raise ValueError(f"T = {self.T}: the input (T, B, C, H, W) = {tuple(x.shape)} has {len(x)} steps")
        x = self.stem(x)
        x = self.body(x, changes) if isinstance(self.body, ResidualStream) else self.body(x)
        # torch has no deterministic gradient of this pool on a GPU, not even where it does nothing
        side = self.pool.output_size
        features = (x if x.shape[2:] == (side, side) else self.pool(x)).flatten(1)
        return self.head(features).unflatten(0, (self.T, -1))

    def conv_chain(self) -> list[nn.Conv2d]:
        blocks = [module for module in self.modules() if isinstance(module, BasicBlock | PreActivationBlock)]
        shortcuts = {conv for block in blocks if block.shortcut is not None for conv in block.shortcut.modules()}
        return [module for module in self.modules() if isinstance(module, nn.Conv2d) and module not in shortcuts]


def build_network(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    image_size: int = 32,
    n_genes: int | None = None,
    width: float = 1.0,
    seed: int = 0,
    block: str | None = None,
    pool: str = "max",
    tilt: float = 1.0,
    **lif: float | str | bool | None,
) -> SpikingNetwork:
    """A network of ``NETWORKS``, or a registered one: encoded with ``n_genes`` genes, or plain with ``n_genes=None``.

    The weights that are not encoded are He's, or those of a registered network's own code.

    Args:
        name: key of ``NETWORKS``, or what ``register_network`` was told.
        num_classes: K.
        in_channels: C. The images of the pipeline have 1 or 3, frames of events 2 or 1.
        image_size: height and width of the images, in pixels.
        n_genes: g, or None for plain weights.
        width: multiplies every channel count of the table.
        seed: of every weight. The global generator of torch is left as it was.
        block: form of the residual blocks, ``pre`` or ``post``, or None for the network's default.
        pool: kind of the 2x2 pools, ``max`` or ``avg``.
        tilt: how many times wider the last layer gets than the stem, beside ``width``. 1 for a registered network.
        lif: arguments of ``LIF``: T, tau, …; or ``neuron="ilif"`` and arguments of ``ILIF``. A registered network answers with
            T steps if T is named, else with any number.

    Returns:
        The network, in training mode: (B, C, H, W) in, outputs (T, B, K), whose mean over the steps are logits.

    Raises:
        ValueError: the name is unknown, an argument is out of range (that of the section `network` in params.yaml), or a
            registered network cannot be built.

    Examples:
        >>> net = gee_core.build_network("resnet19", num_classes=10, n_genes=16, width=0.0625)
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([4, 2, 10])
    """
    seed = check_seed(seed)
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    structure = {"name": name, "block": block, "pool": pool, "width": width, "tilt": tilt, "n_genes": n_genes}
    net = build(Architecture.of(sizes, structure, lif), seed, any_steps="T" not in lif)
    if (genome := genome_of(net)) is not None:
        genome.initialise(genome.analytic_genotype(), torch.Generator().manual_seed(seed))
    return net


def build(architecture: Architecture, seed: int, any_steps: bool = False) -> SpikingNetwork:
    """The network of an ``architecture``, whose genes are still zero. With ``any_steps``, an own network may run others."""
    net: SpikingNetwork
    if is_own(architecture.network.name):
        net = own_network(architecture, seed, any_steps)
    else:
        with private_torch_rng(seed):
            net = to_channels_last(TableNetwork(architecture))
    net.as_built = settings_of(net)
    if (n_genes := architecture.network.n_genes) is not None:
        attach_genome(net, net.conv_chain(), n_genes)
    return net


def count_parameters(net: nn.Module) -> int:
    """Trainable numbers of ``net``, each shared one counted once."""
    return sum(p.numel() for p in net.parameters())

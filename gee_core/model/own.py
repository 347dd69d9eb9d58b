"""The user's own networks: a class or function that returns a module of SpikingJelly neurons, known under a name.

The class is called with ``num_classes``, ``in_channels`` and ``image_size``, by name, and with those settings of the section
`network` that its signature names: ``width``, ``T``, ``tau``, ``decay_input``, ``v_threshold``, ``v_reset``,
``detach_reset``, ``surrogate``, ``surrogate_alpha``, ``neuron``, ``levels``, ``pool``. All others are the module's own
business.

The contract: the module takes images (B, C, H, W), or frames of events (T, B, C, H, W), and answers with the output of every
step, o (T, B, K) in float32 and finite. ``build_network`` runs it once when it is first built with its arguments, and refuses
another answer. The frames are tried where C is 2, since recordings have two polarities. Nothing checks that an answer does not
depend on earlier calls: neurons and the memories of SpikingJelly's ``MemoryModule`` are reset before and after every call.

Shapes: T steps, B batch, C channels, H W space, K classes.
"""

import copy
import inspect
import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from gee_core.config.network import OWN, Own, is_own, registered
from gee_core.errors import InputError, raises
from gee_core.genome.chain import check_chain, explore_chain
from gee_core.model.base import Architecture, SpikingNetwork, takes_all_steps
from gee_core.seeding import private_torch_rng
from gee_core.snn.kernels import is_exporting


def register_network(name: str, build: Callable[..., nn.Module]) -> None:
    """Make a class or function known as the network ``name``, to ``build_network``, ``load`` and the pipeline.

    A second call with the same name replaces the first. Nothing is built yet.

    Args:
        name: ``package.module:NAME``, as in `network.name`, for instance ``networks.my_vgg:MyVGG``.
        build: returns the module. ``gee_core.model.own`` says how it is called and what the module takes and returns.

    Raises:
        ValueError: the name has another form, or ``build`` cannot be called.

    Examples:
        >>> def small(num_classes, in_channels, **how):
        ...     layers = torch.nn.Conv2d(in_channels, 8, 3), gee_core.LIF(), torch.nn.Conv2d(8, num_classes, 3)
        ...     return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> gee_core.register_network("networks.small:small", small)
    """
    if not is_own(name):
        raise ValueError(f"{name!r}: an own network is called package.module:NAME, for instance networks.my_vgg:MyVGG")
    if not callable(build):
        raise ValueError(f"{name}: a {type(build).__name__} is no class or function that builds a network")
    OWN[name] = Own(build, partial(_chain, name))


class Trial(NamedTuple):
    """What the first run of a module showed."""

    T: int
    """Steps of its answer."""
    chain: tuple[str, ...]
    """Names of the convolutions that can be encoded, in order of execution."""
    channels: list[int]
    """[C_0 … C_L]."""
    kernel_positions: int
    """k²."""


class OwnNetwork(SpikingNetwork):
    """The user's module ``net`` as a ``SpikingNetwork``: its neurons are reset before and after every call.

    In evaluation mode, its draws from torch's global generators are the same in every call.
    """

    channels_last = False

    def __init__(self, net: nn.Module, T: int, chain: tuple[str, ...] = (), built_with: Architecture | None = None):
        super().__init__(T, built_with)
        self.net = net
        self._chain = chain

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self.net)
        x = x.clone(memory_format=torch.contiguous_format)  # contiguous() leaves images of one channel as they are
        with nullcontext() if self.training or is_exporting() else private_torch_rng(0, x.device):
            o_TBK = self.net(x)
        functional.reset_net(self.net)  # neurons that hold the graph of their last run cannot be copied
        return o_TBK

    def conv_chain(self) -> list[nn.Conv2d]:
        return [module for name in self._chain if isinstance(module := self.get_submodule(name), nn.Conv2d)]


def own_network(architecture: Architecture, seed: int, any_steps: bool) -> OwnNetwork:
    """The own network with the initial weights of its own code, on the CPU. InputError where it answers with other steps."""
    network, sizes = architecture.network, architecture.model_dump(exclude={"network"})
    name, own, plain = network.name, registered(network.name), architecture.plain()
    # on the CPU also where networks without numbers are built: neurons may not run on the meta device
    with torch.device("cpu"), private_torch_rng(seed):
        try:
            taken = inspect.signature(own.build).parameters
            settings = network.model_dump(exclude={"name", "block", "tilt", "n_genes"})
            # copied, since its code may return the same module every time
            net = copy.deepcopy(own.build(**sizes, **{key: value for key, value in settings.items() if key in taken}))
        except Exception as error:
            called = ", ".join(f"{key}={value}" for key, value in sizes.items())
            raise ValueError(f"{name}({called}, …) {raises(error)}") from error
        if not isinstance(net, nn.Module):
            raise ValueError(f"{name} returns a {type(net).__name__}, not a torch.nn.Module")
        if plain not in own.trials:
            try:
                own.trials[plain] = _try(net, sizes, network.T)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
    trial = own.trials[plain]
    if trial.T != network.T and not any_steps:
        raise InputError(f"= {network.T}, but {name} answers with {trial.T} steps", f"set it to {trial.T}", ("T",))
    built_with = architecture.model_copy(update={"network": network.model_copy(update={"T": trial.T})})
    return OwnNetwork(net, trial.T, trial.chain, built_with)


def _try(net: nn.Module, sizes: dict[str, int], T: int) -> Trial:
    """The steps and the chain of ``net``, by one run. Raises ValueError where the answer is not as the contract says."""
    names: dict[int, str] = {}
    for tensor, value in net.state_dict(keep_vars=True).items():
        if (first := names.setdefault(id(value), tensor)) != tensor:  # which would fail after the training, when it is saved
            raise ValueError(f"its {tensor} and {first} are one tensor, which a checkpoint cannot hold twice")
    K, C, side = sizes.values()
    B = 2 if T != 2 else 3  # so that no answer has its images in the place of its steps
    shape = (T, B, C, side, side) if C == 2 else (B, C, side, side)
    on = f"for {'frames of events (T, B, P, H, W)' if C == 2 else 'images (B, C, H, W)'} = {shape} it"
    probe, answers = OwnNetwork(net, T), list[object]()
    probe.register_forward_hook(lambda module, inputs, answer: answers.append(answer))
    try:
        chain, others = explore_chain(probe, torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    except InputError as error:
        repeated = C != 2 and any(map(takes_all_steps, net.modules()))
        begin = ": let its forward begin with `x = x.repeat(T, 1, 1, 1, 1)`, if it takes (T, B, C, H, W)" if repeated else ""
        raise ValueError(f"{on} {raises(error.__cause__ or error)}{begin}") from error
    o = answers[0]
    if not isinstance(o, Tensor):
        remedy = "let its forward return the output of every step (T, B, K) alone"
        raise ValueError(f"{on} returns a {type(o).__name__}, not a tensor: {remedy}")
    if o.ndim != 3 or o.shape[1:] != (B, K):
        wanted = f"(T, B, K) = {(T, B, K)}: let it return the output of every step, (T, B, K)"
        raise ValueError(f"{on} returns {tuple(o.shape)}, not {wanted}")
    if o.dtype != torch.float32:
        real = ".real" if o.is_complex() else ""
        raise ValueError(f"{on} returns {o.dtype}: let its forward end with `return o{real}.float()`")
    if not o.isfinite().all():
        raise ValueError(f"{on} returns values that are not finite (NaN or infinite)")
    check_chain(probe, chain, others)
    positions = math.prod(chain[1].kernel_size)
    of_chain = {module: name for name, module in probe.named_modules() if module in chain}
    return Trial(len(o), tuple(of_chain[conv] for conv in chain), [conv.out_channels for conv in chain], positions)


def _chain(name: str, width: float | None) -> tuple[list[int], int]:
    """[C_0 … C_L] of the own network ``name`` at ``width``, or None for any, and k². It is built where no trial knows them."""
    trials = registered(name).trials
    for tried, trial in trials.items():  # images of another size have the same chain
        if width in (None, tried.network.width):
            return list(trial.channels), trial.kernel_positions
    structure = {"name": name, "block": None, "pool": "max", "width": 1.0, "tilt": 1.0, "n_genes": None}
    like = next(iter(trials), Architecture.of({"num_classes": 10, "in_channels": 3, "image_size": 32}, structure, {}))
    network = like.network.model_copy(update={"width": 1.0 if width is None else width})
    own_network(like.model_copy(update={"network": network}), 0, any_steps=True)
    return _chain(name, width)

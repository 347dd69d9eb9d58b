"""The contenders of ``time_to_accuracy``: the sections of params.yaml for each, and its network, optimiser and recipe."""

from dataclasses import dataclass

import torch
from torch import nn

from gee_core.config import Params
from gee_core.data.meta import Meta
from gee_core.errors import InputError
from gee_core.hardware import Compute
from gee_core.model.base import SpikingNetwork
from gee_core.model.wired import wired_network
from gee_core.seeding import derive_seed
from gee_core.snn.lif import ILIF, LIF
from gee_core.training.loop import Images
from gee_core.training.recipe import Recipe
from pipelines.project.params import check_params
from pipelines.project.presets import DEFAULT, load_preset
from pipelines.train import full_recipe

INTEGERS = "spikingjelly_ilif"
CONTENDERS = ("genetic", "unencoded", "spikingjelly_default", "spikingjelly_best", INTEGERS)
SHARED = "spikingjelly"
"""The curve of both of SpikingJelly's contenders with binary spikes where they are trained with this library's layers."""
NEURONS = {
    SHARED: {"neuron": "lif", "levels": None, "T": 4, "tau": 2.0, "v_threshold": 0.5, "detach_reset": True},
    INTEGERS: {"neuron": "ilif", "levels": 4, "T": 1, "tau": 4 / 3, "v_threshold": 1.0, "detach_reset": False},
}
"""SpikingJelly's neurons: LIF as the preset `digits` has it, and ILIFNode with its own defaults."""
STANDARD = {
    "batch_size": 64,
    "optimizer": "adamw",
    "lr": 2e-3,
    "lr_min": 0.0,
    "cooldown": None,
    "weight_decay": 0.01,
    "warmup_epochs": 1,
    "crop_padding": 4,
    "flip": True,
    "loss": "ce",
    "label_smoothing": 0.1,
    "sizes": None,
    "T_schedule": None,
}
"""SpikingJelly's recipe: these values of `train`, `epochs` of the preset, and every other value of the preset `digits`."""


@dataclass(frozen=True)
class Contender:
    """One side of the comparison, with everything that determines its training runs but the images."""

    name: str
    params: Params
    layers: str = "fused"
    """`fused`: this library's; `spikingjelly`: SpikingJelly's own multi-step path."""

    def build(self, meta: Meta, images: Images) -> tuple[SpikingNetwork, torch.optim.Optimizer, Recipe]:
        """The untrained network, its optimiser, and the recipe for epochs of ``images``."""
        base = self.params.base
        compute = Compute.of(base.device, "fp32" if self.name == "spikingjelly_default" else base.precision)
        net = wired_network(self.params.network, meta, None, derive_seed(base.seed, "fresh") % 2**31).to(compute.device)
        if self.layers == "spikingjelly":
            use_spikingjelly(net, contiguous=self.name == "spikingjelly_default")
        recipe = full_recipe(self.params, meta.normalise, compute, len(images))
        return net, recipe.begin(net, images), recipe


def sections_of(values: dict, name: str, standard_epochs: int | None = None) -> dict:
    """The sections of params.yaml for ``name``, one of ``CONTENDERS`` or ``SHARED``, where `genetic` has ``values``.

    SpikingJelly's recipe has ``standard_epochs`` epochs; None: as many as the others.

    Raises:
        InputError: there is no contender of this name.
    """
    if name not in (*CONTENDERS, SHARED):
        raise InputError(f"unknown contender {name!r}", f"choose one of {', '.join(CONTENDERS)}")
    network, evolve, train = values["network"], values["evolve"], values["train"]
    if name != "genetic":
        network = network | {"n_genes": None}
        evolve = evolve | {"variant": "analytic", "start": "analytic"}
    if name.startswith(SHARED):
        network = network | {"init": None} | NEURONS[curve_name(name)]
        standard = load_preset(DEFAULT).values["train"] | STANDARD
        train = standard | {"epochs": standard_epochs or train["epochs"]}
    train = train | {"quantise": None, "init_from": None}
    return values | {"network": network, "evolve": evolve, "train": with_epochs(train, train["epochs"])}


def with_epochs(train: dict, epochs: int) -> dict:
    """The section `train` with another number of epochs, one of which at least is no warm-up."""
    return train | {"epochs": epochs, "warmup_epochs": min(train["warmup_epochs"], epochs - 1)}


def contender(sections: dict, name: str, seed: int = 0, lr: float | None = None, layers: str = "fused") -> Contender:
    """The contender ``name`` of ``sections_of`` it, with a seed, and a learning rate if it is not that of the sections.

    Raises:
        InputError: the sections are not valid.
    """
    train = sections["train"]
    if lr is not None:
        train = train | {"lr": lr, "lr_min": min(train["lr_min"], lr)}
    changed = {"base": sections["base"] | {"seed": seed}, "train": train}
    return Contender(name, check_params(sections | changed, name), layers)


class SpikingJellyLIF(LIF):
    """``LIF`` by SpikingJelly's own multi-step path."""

    is_standard = False


class SpikingJellyILIF(ILIF):
    """``ILIF`` by SpikingJelly's own multi-step path."""

    is_standard = False


def use_spikingjelly(net: nn.Module, contiguous: bool) -> None:
    """Let all neurons of ``net`` run SpikingJelly's own multi-step path; ``contiguous``: network and input in that layout."""
    for module in net.modules():
        if isinstance(module, LIF):
            module.__class__ = SpikingJellyLIF
        elif isinstance(module, ILIF):
            module.__class__ = SpikingJellyILIF
    if contiguous:
        for tensor in [*net.parameters(), *net.buffers()]:
            tensor.data = tensor.data.contiguous()
        net.register_forward_pre_hook(lambda net, args: (args[0].contiguous(),))


def curve_name(name: str, layers: str = "fused") -> str:
    """The name of the curve that the contender ``name`` has."""
    return SHARED if name in CONTENDERS[2:4] and layers == "fused" else name


def own_layers(name: str) -> str:
    """The layers of a curve, or of a step, of this name."""
    return SHARED if name in CONTENDERS[2:] else "fused"

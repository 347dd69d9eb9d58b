"""Forward hooks that count what the layers and neurons of a network do.

Shapes: T steps, B batch. A layer sees its steps folded into the batch, (T*B, …), or apart, (T, B, …), or one at a time, in T
calls on (B, …).
"""

import math
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, cast

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from gee_core.errors import InputError
from gee_core.evaluation.activity import Activity, LayerCount
from gee_core.genome.copying import without_autocast
from gee_core.model.base import is_neuron
from gee_core.model.layers import BasicBlock, PreActivationBlock

Conv: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed: TypeAlias = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
Layer: TypeAlias = Conv | Transposed | nn.Linear


Counts: TypeAlias = dict[tuple[str, Any], Any]
"""Sums by the name of a module, or "" for the network, and by a quantity, layers in order of execution.

Of every shape of a layer's input it has (`active`, shape): how often each element was not 0, and (`inputs`, shape): how many
inputs. Of neurons it has (`after`, layer) for each layer whose output they read."""


class Counter:
    """Counts on ``net``, a copy that nobody else uses: ``begin`` a batch, run the network on it, read ``result``."""

    def __init__(self, net: nn.Module, decoding_costs: dict[str, int]):
        self.net, self.decoding_costs = net, decoding_costs
        self.counts: Counts = defaultdict(int)
        self.batch = torch.empty(0)
        self.as_it_is = False
        self.since_neurons: list[str] = []  # layers that ran since the last neurons did
        self.fires_integers = any(isinstance(module, neuron.ILIFNode) for module in net.modules())
        for name, module in net.named_modules():
            if isinstance(module, Layer):
                module.register_forward_hook(partial(self._count_layer, name), with_kwargs=True)
            elif is_neuron(module):
                module.register_forward_hook(partial(self._count_spikes, name))
            elif isinstance(module, BasicBlock | PreActivationBlock):
                module.conv2.register_forward_hook(lambda _, __, branch: self._add("", sums=branch.numel()))

    def begin(self, x: Tensor, steps: int | None = None, time_first: bool = False) -> None:
        """The network runs next on the batch ``x``, given to it as ``measure_energy`` gives it."""
        self.batch = x[0] if time_first and len(x) else x
        self.as_it_is = steps is None and not time_first
        self._add("", images=len(self.batch), of_events=time_first)

    def add(self, counts: Counts) -> None:
        """Add the counts of another process on the same network."""
        for key, number in counts.items():
            self.counts[key] += number

    def layers(self) -> list[str]:
        """The names of the layers that ran, in order of execution."""
        return [name for name, quantity in self.counts if quantity == "runs"]

    def _is_first(self, name: str) -> bool:
        return name == next((layer for layer, quantity in self.counts if quantity == "runs"), name)

    def _add(self, name: str, **numbers: float) -> None:
        for quantity, number in numbers.items():
            self.counts[name, quantity] += number

    def _count_layer(self, name: str, module: Layer, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], y: Tensor) -> None:
        x = args[0] if args else kwargs["input"]
        input_ndim = max(1, module.weight.ndim - 1)  # of one image: (features,) or (C, …)
        lead, shape = x.shape[: x.ndim - input_ndim], tuple(x.shape[x.ndim - input_ndim :])
        if not lead and shape == self.batch.shape:
            problem = f"an input of shape {shape} is one image without a batch dimension"
            raise InputError(problem, "give it as x[None], and a DataLoader in place of a data set")
        steps_first = getattr(module, "step_mode", "s") == "m" and len(lead) > 1
        if self.as_it_is and steps_first and x.shape == self.batch.shape and torch.equal(x, self.batch):
            raise InputError(
                f"a batch of shape {tuple(x.shape)} is (T, B, …) to a network in step mode m", "give time_first=True"
            )
        binary, is_first = bool(((x == 0) | (x == 1)).all()), self._is_first(name)
        counts = binary or bool(((x >= 0) & (x == x.floor())).all())
        events = counts and self.fires_integers and not is_first
        active = (x if binary or events else (x != 0).float()).reshape(-1, *shape).sum(0, dtype=torch.float32).double().cpu()
        self._add(
            name,
            runs=self._runs(module, lead),
            macs=(x if isinstance(module, Transposed) else y).numel() * module.weight[0].numel(),
            calls_not_binary=not binary,
            calls_not_counts=not counts,
            calls_not_spiking=not (binary or events or bool(((x == 0) | (x.abs() == 1)).all())),
            input_sum=(active if binary else x).sum(dtype=torch.float64).item(),
            input_count=x.numel(),
        )
        self.counts[name, ("active", shape)] += active
        self.counts[name, ("inputs", shape)] += math.prod(lead)
        if is_first:  # the next batch, or the next step of a network that runs them one at a time
            self.since_neurons.clear()
        self.since_neurons.append(name)

    def _runs(self, module: Layer, lead: torch.Size) -> int:
        """Images times steps of a call with the leading dimensions ``lead``. (B, N, …) with N = B is taken for (T, B, …)."""
        if not isinstance(module, nn.Linear):
            return math.prod(lead)
        apart = len(lead) > 1 and (getattr(module, "step_mode", "s") == "m" or lead[1] == len(self.batch))
        return math.prod(lead[: 2 if apart else 1])

    def _count_spikes(
        self, name: str, module: nn.Module, args: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]
    ) -> None:
        spikes = output if isinstance(output, Tensor) else output[0]
        active = int(torch.count_nonzero(spikes))
        fired = spikes.sum(dtype=torch.float64).item() if isinstance(module, neuron.ILIFNode) else active
        self._add(name, spikes=fired, active=active, outputs=spikes.numel())
        for layer in self.since_neurons:
            self.counts[name, ("after", layer)] += 1
        self.since_neurons.clear()

    def result(self) -> Activity:
        """The counts of everything that ran so far. InputError where nothing ran, or an input was not finite."""
        numbers = self.counts
        if not numbers["", "images"]:
            raise InputError("there are no images to count on", "give it a tensor or batches with at least one")
        layers = {name: self._layer_count(name) for name in self.layers()}
        for neurons, layer in [(name, quantity[1]) for name, quantity in numbers if quantity[0] == "after"]:
            layers[layer].output_rate = numbers[neurons, "spikes"] / numbers[neurons, "outputs"]
        spikes, active, outputs = (
            sum(n for (_, quantity), n in numbers.items() if quantity == key) for key in ("spikes", "active", "outputs")
        )
        weights = [module.weight for module in self.net.modules() if isinstance(module, Layer)]
        return Activity(
            layers=list(layers.values()),
            spikes_per_image=spikes / numbers["", "images"],
            firing_rate=_share(spikes, outputs),
            sums=numbers["", "sums"] / numbers["", "images"],
            activation_sparsity=1 - active / outputs if outputs else 0.0,
            connection_sparsity=_share(sum(int((W == 0).sum()) for W in weights), sum(W.numel() for W in weights)),
            not_counted=self._not_counted(),
        )

    def _layer_count(self, name: str) -> LayerCount:
        module, numbers = cast(Layer, self.net.get_submodule(name)), self.counts
        n_images = numbers["", "images"]
        reads_events = numbers["", "of_events"] > 0 if self._is_first(name) else self.fires_integers
        if not math.isfinite(numbers[name, "input_sum"]):
            raise InputError(f"the input of {name} holds values that are not finite", "check its weights and the images")
        count = LayerCount(
            name,
            "fc" if isinstance(module, nn.Linear) else "transposed" if isinstance(module, Transposed) else "conv",
            steps=_whole(numbers[name, "runs"], n_images),
            macs=_whole(numbers[name, "macs"], numbers[name, "runs"]),
            binary=not numbers[name, "calls_not_binary"],
            spiking=not numbers[name, "calls_not_spiking"],
            counts=reads_events and not numbers[name, "calls_not_counts"],
            input_sum=numbers[name, "input_sum"],
            input_count=numbers[name, "input_count"],
            decode_macs=self.decoding_costs.get(name, 0),
        )
        W = module.weight.detach()
        for shape in [quantity[1] for layer, quantity in numbers if layer == name and quantity[0] == "active"]:
            active, inputs = numbers[name, ("active", shape)], numbers[name, ("inputs", shape)]
            connections = fan_out(module, shape, torch.ones_like(W, dtype=torch.float32)).cpu()
            weighty = fan_out(module, shape, (W != 0).float()).cpu() if (W == 0).any() else connections
            count.dense += inputs * connections.sum().item() / n_images
            count.synops += (active * connections).sum().item() / n_images
            count.effective += (active * weighty).sum().item() / n_images
        return count

    def _not_counted(self) -> dict[str, str]:
        names, inside, layers = {}, set(), self.layers()
        for name, module in self.net.named_modules():
            if is_neuron(module) or isinstance(module, _BatchNorm):
                inside.update(module.modules())
            elif name in layers and parametrize.is_parametrized(module):
                inside.update(module.get_submodule("parametrizations").modules())
            counted = name in layers or module in inside
            if not counted and next(module.parameters(recurse=False), None) is not None:
                names[name] = type(module).__name__ + (", never called" if isinstance(module, Layer) else "")
        return names


def fan_out(module: Layer, shape: tuple[int, ...], weight: Tensor) -> Tensor:
    """To how many outputs each element of one input of ``shape`` leads, float64: the gradient of their sum, W being 0 and 1."""
    with torch.inference_mode(False), torch.enable_grad(), without_autocast(weight.device):
        weight = weight.clone()  # one of inference mode has no gradients
        x = weight.new_ones(1, *shape).requires_grad_()
        if isinstance(module, nn.Linear):
            y = F.linear(x, weight)
        elif isinstance(module, Transposed):
            transposed: Callable[..., Tensor] = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}[
                weight.ndim
            ]
            sizes = module.stride, module.padding, module.output_padding
            y = transposed(x, weight, None, *sizes, module.groups, module.dilation)
        else:
            y = module._conv_forward(x, weight, None)
        (gradient,) = torch.autograd.grad(y.sum(), x)
    return gradient[0].double().round()


def _whole(total: int, parts: int) -> float:
    """``total`` / ``parts``, as an int where it is one."""
    return _share(total, parts) if parts == 0 or total % parts else total // parts


def _share(part: float, whole: int) -> float:
    return part / whole if whole else 0.0

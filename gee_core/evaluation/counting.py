"""Forward hooks that count what the layers and neurons of a network do.

Shapes: T steps, B batch. A layer sees its steps folded into the batch, (T*B, …), or apart, (T, B, …), or one at a time, in T
calls on (B, …).
"""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from gee_core.errors import InputError
from gee_core.evaluation.activity import Activity, LayerCount
from gee_core.genome.copying import without_autocast
from gee_core.model.base import is_neuron
from gee_core.model.layers import BasicBlock, PreActivationBlock

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
Layer = Conv | Transposed | nn.Linear


@dataclass
class _Seen:
    """What one layer did so far."""

    count: LayerCount
    runs: int = 0
    """Images times steps."""
    macs: int = 0
    """In all of them."""
    active: dict[tuple[int, ...], tuple[Tensor, int]] = field(default_factory=dict)
    """By the shape of one input without its leading dimensions: how often each of its elements was not 0, how many inputs."""

    def add(self, other: "_Seen") -> None:
        count, of_other = self.count, other.count
        self.runs += other.runs
        self.macs += other.macs
        for own, (active, inputs) in other.active.items():
            before, n_before = self.active.get(own, (0, 0))
            self.active[own] = before + active, n_before + inputs
        count.binary, count.spiking = count.binary and of_other.binary, count.spiking and of_other.spiking
        count.counts = count.counts and of_other.counts
        count.input_sum += of_other.input_sum
        count.input_count += of_other.input_count


@dataclass
class _Fired:
    """What neurons did so far."""

    active: int = 0
    """Spikes: outputs that are not 0, of ternary neurons those of -1 too."""
    total: int = 0
    """Neurons, times steps and images."""
    behind: set[str] = field(default_factory=set)
    """Layers before them."""

    def add(self, other: "_Fired") -> None:
        self.active += other.active
        self.total += other.total
        self.behind |= other.behind


class Counter:
    """Counts on ``net``, a copy that nobody else uses: ``begin`` a batch, run the network on it, read ``result``."""

    def __init__(self, net: nn.Module, decoding_costs: dict[str, int]):
        self.net = net
        self.batch = self.n_images = self.sums = 0
        self.once = torch.empty(0)
        self.as_it_is = self.of_events = False
        self.since_neurons: list[str] = []  # layers that ran since the last neurons did
        self.seen: dict[str, _Seen] = {}
        self.fired: dict[str, _Fired] = {}
        for name, module in net.named_modules():
            if isinstance(module, Layer):
                hook = partial(self._count_layer, name, decoding_costs.get(name, 0))
                module.register_forward_hook(hook, with_kwargs=True)
            elif is_neuron(module):
                module.register_forward_hook(partial(self._count_spikes, name))
            elif isinstance(module, BasicBlock | PreActivationBlock):
                module.conv2.register_forward_hook(self._count_sum)

    def begin(self, x: Tensor, steps: int | None = None, time_first: bool = False) -> None:
        """The network runs next on the batch ``x``, given to it as ``measure_energy`` gives it."""
        self.once = x[0] if time_first and len(x) else x
        self.as_it_is, self.of_events = steps is None and not time_first, time_first
        self.batch = len(self.once)
        self.n_images += self.batch

    def _count_layer(self, name: str, decode_macs: int, module: Layer, args: tuple, kwargs: dict, y: Tensor) -> None:
        x: Tensor = args[0] if args else kwargs["input"]
        if name not in self.seen:
            kind = "fc" if isinstance(module, nn.Linear) else "transposed" if isinstance(module, Transposed) else "conv"
            first = self.of_events and not self.seen
            self.seen[name] = _Seen(LayerCount(name, kind, decode_macs=decode_macs, counts=first))
        seen, own_ndim = self.seen[name], max(1, module.weight.ndim - 1)  # of one image: (features,) or (C, …)
        lead, own = x.shape[: x.ndim - own_ndim], x.shape[x.ndim - own_ndim :]
        if not lead and own == self.once.shape:
            problem = f"an input of shape {tuple(own)} is one image without a batch dimension"
            raise InputError(problem, "give it as x[None], and a DataLoader in place of a data set")
        steps_first = getattr(module, "step_mode", "s") == "m" and len(lead) > 1
        if self.as_it_is and steps_first and x.shape == self.once.shape and torch.equal(x, self.once):
            raise InputError(
                f"a batch of shape {tuple(x.shape)} is (T, B, …) to a network in step mode m", "give time_first=True"
            )
        seen.runs += self._runs(module, lead)
        seen.macs += (x if isinstance(module, Transposed) else y).numel() * module.weight[0].numel()
        count, binary = seen.count, bool(((x == 0) | (x == 1)).all())
        count.binary = count.binary and binary
        count.counts = count.counts and (binary or bool(((x >= 0) & (x == x.floor())).all()))
        count.spiking = count.spiking and (binary or bool(((x == 0) | (x.abs() == 1)).all()))
        now = (x if binary else (x != 0).float()).reshape(-1, *own).sum(0, dtype=torch.float32).double().cpu()  # see counted
        count.input_sum += (now if binary else x).sum(dtype=torch.float64).item()
        count.input_count += x.numel()
        active, inputs = seen.active.get(tuple(own), (0, 0))
        seen.active[tuple(own)] = active + now, inputs + math.prod(lead)
        if name == next(iter(self.seen)):  # the next batch, or the next step of a network that runs them one at a time
            self.since_neurons.clear()
        self.since_neurons.append(name)

    def _runs(self, module: Layer, lead: torch.Size) -> int:
        """Images times steps of a call with the leading dimensions ``lead``; (B, N, …) with N = B is taken for (T, B, …)."""
        if not isinstance(module, nn.Linear):
            return math.prod(lead)
        apart = len(lead) > 1 and (getattr(module, "step_mode", "s") == "m" or lead[1] == self.batch)
        return math.prod(lead[: 2 if apart else 1])

    def _count_spikes(self, name: str, module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
        spikes = output if isinstance(output, Tensor) else output[0]
        entry = self.fired.setdefault(name, _Fired())
        entry.behind.update(self.since_neurons)
        entry.active += int(torch.count_nonzero(spikes))
        entry.total += spikes.numel()
        self.since_neurons.clear()

    def _count_sum(self, module: nn.Module, args: tuple[Tensor], branch: Tensor) -> None:
        self.sums += branch.numel()

    def counted(self) -> tuple[int, int, dict[str, _Seen], dict[str, _Fired]]:
        """The counts so far, for ``add`` in another process."""
        return self.n_images, self.sums, self.seen, self.fired

    def add(self, n_images: int, sums: int, seen: dict[str, _Seen], fired: dict[str, _Fired]) -> None:
        """Add the counts of another counter on the same network."""
        self.n_images += n_images
        self.sums += sums
        for name, other in seen.items():
            if (own := self.seen.setdefault(name, other)) is not other:
                own.add(other)
        for name, of_other in fired.items():
            if (of_own := self.fired.setdefault(name, of_other)) is not of_other:
                of_own.add(of_other)

    def result(self) -> Activity:
        """The counts of everything that ran so far; InputError where nothing ran, or an input was not finite."""
        if not self.n_images:
            raise InputError("there are no images to count on", "give it a tensor or batches with at least one")
        for name, seen in self.seen.items():
            if not math.isfinite(seen.count.input_sum):
                raise InputError(f"the input of {name} holds values that are not finite", "check its weights and the images")
            self._finish(seen)
        for fired in self.fired.values():
            for layer in fired.behind:
                self.seen[layer].count.output_rate = fired.active / fired.total
        active, total = (sum(getattr(fired, key) for fired in self.fired.values()) for key in ("active", "total"))
        weights = [module.weight for module in self.net.modules() if isinstance(module, Layer)]
        return Activity(
            layers=[seen.count for seen in self.seen.values()],
            spikes_per_image=active / self.n_images,
            firing_rate=active / total if total else 0.0,
            sums=self.sums / self.n_images,
            activation_sparsity=1 - active / total if total else 0.0,
            connection_sparsity=_share(sum(int((W == 0).sum()) for W in weights), sum(W.numel() for W in weights)),
            not_counted=self._not_counted(),
        )

    def _finish(self, seen: _Seen) -> None:
        count, module = seen.count, cast(Layer, self.net.get_submodule(seen.count.layer))
        W = module.weight.detach()
        count.steps, count.macs = _whole(seen.runs, self.n_images), _whole(seen.macs, seen.runs)
        for own, (active, inputs) in seen.active.items():
            connections = fan_out(module, own, torch.ones_like(W, dtype=torch.float32)).cpu()
            weighty = fan_out(module, own, (W != 0).float()).cpu() if (W == 0).any() else connections
            count.dense += inputs * connections.sum().item() / self.n_images
            count.synops += (active * connections).sum().item() / self.n_images
            count.effective += (active * weighty).sum().item() / self.n_images

    def _not_counted(self) -> dict[str, str]:
        found, inside = {}, set()
        for name, module in self.net.named_modules():
            if is_neuron(module) or isinstance(module, _BatchNorm):
                inside.update(module.modules())
            elif name in self.seen and parametrize.is_parametrized(module):
                inside.update(cast(Any, module).parametrizations.modules())
            if name not in self.seen and module not in inside and next(module.parameters(recurse=False), None) is not None:
                found[name] = type(module).__name__ + (", never called" if isinstance(module, Layer) else "")
        return found


def fan_out(module: Layer, shape: tuple[int, ...], weight: Tensor) -> Tensor:
    """To how many outputs each element of one input of ``shape`` leads, float64: the gradient of their sum, W being 0 and 1."""
    with torch.inference_mode(False), torch.enable_grad(), without_autocast(weight.device):
        weight = weight.clone()  # one of inference mode has no gradients
        x = weight.new_ones(1, *shape).requires_grad_()
        if isinstance(module, nn.Linear):
            y = F.linear(x, weight)
        elif isinstance(module, Transposed):
            transposed: Any = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}[weight.ndim]
            sizes = module.stride, module.padding, module.output_padding
            y = transposed(x, weight, None, *sizes, module.groups, module.dilation)
        else:
            y = module._conv_forward(x, weight, None)
        (gradient,) = torch.autograd.grad(y.sum(), x)
    return gradient[0].double().round()


def _whole(total: int, parts: int) -> float:
    """``total`` / ``parts``, as an int where it is one."""
    return _share(total, parts) if parts == 0 or total % parts else total // parts


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0

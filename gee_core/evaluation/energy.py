"""Operations, spikes and theoretical energy of a network on images (Eq. 17, Table 3).

    E = E_MAC·FL_stem + E_AC·T·(Σ fr_n·FL_n over convolutions n ≥ 2 + Σ fr_m·FL_m over fully connected layers)

FL are multiply-accumulates per step, fr the mean firing rate of a layer's input over neurons, images and steps. Batch norm
(which folds into the convolution before it, or into the thresholds of the neurons behind it) and the neurons themselves count
as free, as in the paper. The sums of residual blocks, which Eq. 17 leaves out too, are counted apart, in networks of the table;
those of other networks are not counted.

Shapes: T steps, B batch. A layer sees its steps folded into the batch, (T*B, …), or apart, (T, B, …), or one at a time, in T
calls on (B, …).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import torch
from spikingjelly.activation_based.neuron import BaseNode
from torch import Tensor, nn

from gee_core.genome.encoding import genome_of
from gee_core.hardware import Compute
from gee_core.model.layers import BasicBlock, PreActivationBlock
from gee_core.training.loop import for_inference

PICO_TO_MILLI = 1e-9


@dataclass
class LayerCount:
    """Counts of one convolution or fully connected layer, and the energy that follows from them."""

    layer: str
    kind: str
    steps: int = 0
    """How often the layer runs per image: T, or 1 for a stem that runs once, as its input does not change. A stem that gets the
    image T times, as in most networks outside the table, runs T times, and its energy is T times as large."""
    macs: int = 0
    """FL: multiply-accumulates per image and step if every input neuron were active."""
    binary: bool = True
    """Whether its input consists of 0 and 1: only then does a spike cost one accumulate."""
    input_sum: float = 0.0
    input_count: int = 0
    output_rate: float | None = None
    """Mean firing rate of the neurons behind it; None if there are none."""
    decode_macs: int = 0
    """Multiply-accumulates of building its weight from genes once."""

    @property
    def input_rate(self) -> float:
        """fr: mean of the input over neurons, images and steps."""
        return self.input_sum / self.input_count

    def energy_mj(self, e_mac: float, e_ac: float) -> float:
        """Energy of this layer per image in mJ, from pJ per operation."""
        per_step = e_ac * self.input_rate if self.binary else e_mac
        return per_step * self.macs * self.steps * PICO_TO_MILLI

    def decode_energy_mj(self, e_mac: float) -> float:
        """Energy of building the weight once, in mJ."""
        return e_mac * self.decode_macs * PICO_TO_MILLI


@dataclass
class Activity:
    """Counts of a whole network."""

    layers: list[LayerCount] = field(default_factory=list)
    """In order of execution."""
    spikes_per_image: float = 0.0
    """Spikes of all neurons, summed over the steps."""
    firing_rate: float = 0.0
    """Spikes per neuron and step."""
    sums: float = 0.0
    """Additions of the residual blocks' branches per image: their elements, times the steps."""

    def energy_mj(self, e_mac: float, e_ac: float) -> float:
        """Eq. 17, per image, in mJ, for weights that are stored decoded."""
        return sum(layer.energy_mj(e_mac, e_ac) for layer in self.layers)

    def energy_with_decoding_mj(self, e_mac: float, e_ac: float) -> float:
        """``energy_mj``, plus the energy of building every W from its genes once per image."""
        return self.energy_mj(e_mac, e_ac) + sum(layer.decode_energy_mj(e_mac) for layer in self.layers)

    def energy_of_sums_mj(self, e_ac: float) -> float:
        """Energy of the residual sums per image in mJ, one accumulate for each addition; ``energy_mj`` leaves it out."""
        return e_ac * self.sums * PICO_TO_MILLI


def measure_energy(
    net: nn.Module,
    inputs: Iterable[Tensor],
    dtype: torch.dtype = torch.float32,
    on_output: Callable[[Tensor], object] = lambda output: None,
) -> Activity:
    """Count the operations and spikes of ``net`` on batches ``inputs`` (B, …); ``Activity`` turns them into energy.

    Runs a copy of ``net`` in evaluation mode, with its weights decoded once. Works on any network of ``Conv2d``, ``Linear``
    and SpikingJelly neurons that takes (B, …).

    Args:
        net: the network; it is not changed.
        inputs: batches on the network's device.
        dtype: bfloat16 for autocast, or float32.
        on_output: called with the network's output for every batch, so that the same pass can measure accuracy.

    Raises:
        ValueError: there are no inputs.
    """
    plain = for_inference(net)
    counter = _Counter(plain, _decoding_costs(net))
    with torch.no_grad():
        for x in inputs:
            counter.batch = len(x)
            counter.n_images += len(x)
            with Compute(x.device, dtype).autocast():
                on_output(plain(x))
    return counter.result()


def firing_rates(net: nn.Module, x: Tensor, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Spikes per neuron and step behind every layer that has neurons, by the layer's name, on one batch ``x`` (B, …)."""
    layers = measure_energy(net, [x], dtype).layers
    return {layer.layer: layer.output_rate for layer in layers if layer.output_rate is not None}


def _decoding_costs(net: nn.Module) -> dict[str, int]:
    """Multiply-accumulates of building each encoded layer's weight, by its name."""
    genome = genome_of(net)
    if genome is None:
        return {}
    names = {module: name for name, module in net.named_modules()}
    return {names[conv]: macs for conv, macs in zip(genome.encoded_convs(), genome.decode_macs(), strict=True)}


class _Counter:
    """Forward hooks on every layer of ``net``, a copy that nobody else uses, that multiplies, fires or ends a branch."""

    def __init__(self, net: nn.Module, decoding_costs: dict[str, int]):
        self.batch = self.n_images = self.sums = 0
        self.since_neurons: list[str] = []  # layers that ran since the last neurons did
        self.layers: dict[str, LayerCount] = {}
        self.ran: dict[str, tuple[int, int]] = {}  # layer → (images * steps, multiply-accumulates in all of them)
        self.fired: dict[str, list] = {}  # neurons → [spikes, neurons * steps * images, layers before them]
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(partial(self._count_layer, name, decoding_costs.get(name, 0)))
            elif isinstance(module, BaseNode):
                module.register_forward_hook(partial(self._count_spikes, name))
            elif isinstance(module, BasicBlock | PreActivationBlock):
                module.conv2.register_forward_hook(self._count_sum)

    def _count_layer(self, name: str, decode_macs: int, module: nn.Conv2d | nn.Linear, args: tuple[Tensor], y: Tensor) -> None:
        x = args[0]
        kind = "conv" if isinstance(module, nn.Conv2d) else "fc"
        count = self.layers.setdefault(name, LayerCount(name, kind, decode_macs=decode_macs))
        steps_apart = getattr(module, "step_mode", "s") == "m" or (kind == "fc" and x.ndim == 3 and x.shape[1] == self.batch)
        runs, macs = self.ran.get(name, (0, 0))
        runs += x.shape[0] * x.shape[1] if steps_apart else len(x)
        self.ran[name] = runs, macs + y.numel() * module.weight[0].numel()
        count.binary = count.binary and bool(((x == 0) | (x == 1)).all())
        count.input_sum += x.sum(dtype=torch.float64).item()
        count.input_count += x.numel()
        if name == next(iter(self.layers)):  # the next batch, or the next step of a network that runs them one at a time
            self.since_neurons.clear()
        self.since_neurons.append(name)

    def _count_spikes(self, name: str, module: nn.Module, args: tuple[Tensor], spikes: Tensor) -> None:
        entry = self.fired.setdefault(name, [0.0, 0, set()])
        entry[2].update(self.since_neurons)
        entry[0] += spikes.sum(dtype=torch.float64).item()
        entry[1] += spikes.numel()
        self.since_neurons.clear()

    def _count_sum(self, module: nn.Module, args: tuple[Tensor], branch: Tensor) -> None:
        self.sums += branch.numel()

    def result(self) -> Activity:
        if not self.n_images:
            raise ValueError("there are no images to count on")
        for name, (runs, macs) in self.ran.items():
            self.layers[name].steps, self.layers[name].macs = runs // self.n_images, macs // runs
        for spikes, count, before in self.fired.values():
            for layer in before:
                self.layers[layer].output_rate = spikes / count
        total = sum(spikes for spikes, _, _ in self.fired.values())
        neurons = sum(count for _, count, _ in self.fired.values())
        rate = total / neurons if neurons else 0.0
        return Activity(list(self.layers.values()), total / self.n_images, rate, self.sums / self.n_images)

"""Operations, spikes and theoretical energy of a network on images (Eq. 17, Table 3).

Shapes: T steps, B batch.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from gee_core.compute import Compute
from gee_core.errors import InputError
from gee_core.evaluation.activity import Activity
from gee_core.evaluation.counting import Counter, Layer
from gee_core.genome.copying import as_written, check_module, check_values, running_on
from gee_core.genome.encoding import genomes
from gee_core.model.base import SpikingNetwork, is_neuron, takes_all_steps
from gee_core.rank import ALONE, Rank
from gee_core.seeding import private_torch_rng
from gee_core.training.loop import for_inference
from gee_core.training.processes import from_all


def measure_energy(
    net: nn.Module,
    images: Tensor | Iterable[Tensor],
    dtype: torch.dtype = torch.float32,
    on_output: Callable[[Tensor], object] = lambda output: None,
    *,
    steps: int | None = None,
    time_first: bool = False,
    rank: Rank = ALONE,
) -> Activity:
    """Count the operations and spikes of ``net`` on images. ``Activity`` turns them into energy.

    Works on any network of SpikingJelly neurons, or of ``LIF``, whichever way its steps run: folded into the batch, apart as
    (T, B, …), or one call of its layers after the other. Counted are convolutions of 1 to 3 dimensions, transposed ones, and
    fully connected layers. ``Activity.not_counted`` names all other modules that have parameters.

    A layer accumulates if its input is 0 and 1 in all images and steps, the first layer too. That is right for event data.
    Normalise black-and-white images as for training, else the stem is several times cheaper than in Eq. 17.

    Runs a copy of ``net``, its hooks included, in evaluation mode, with its weights decoded once. Its neurons are reset before
    every batch, and what it draws from torch's global generators is the same in every call.

    Args:
        net: the network, which is not changed.
        images: one batch (B, …), or an iterable of batches, on the network's device. Of a tuple or list, as a ``DataLoader``
            yields it, the first entry is taken.
        dtype: bfloat16 for autocast, or float32.
        on_output: called with the network's output for every batch, so that the same pass can measure accuracy.
        steps: T, for a network that makes no steps of its own: every image is presented T times, as (T, B, …) if its neurons
            are in step mode ``m``, else in T calls on (B, …), whose outputs are stacked. None: the network is called once.
        time_first: the batches are (T, B, …), as event data are. The network gets them as it gets ``steps``. A network of
            ``build_network`` says it by itself.
        rank: of several processes, each gives its own images, and all get the counts on all images.

    Returns:
        The ``Activity``: operations, spikes and firing rates by layer, means per image.

    Raises:
        InputError: the network has no neurons, cannot be copied, raises, or puts out values that are not finite; or the images
            or an argument do not fit.

    Examples:
        >>> net = gee_core.build_network("cifarnet", num_classes=10, n_genes=8, width=0.125)
        >>> activity = gee_core.measure_energy(net, torch.rand(2, 3, 32, 32))
        >>> 0 < activity.firing_rate < 1
        True
    """
    _check(net, steps, time_first)
    if dtype not in (torch.float32, torch.bfloat16):
        raise InputError(f"dtype = {dtype}", "must be torch.float32 or torch.bfloat16")
    plain = for_inference(net)
    names, costs = {module: name for name, module in net.named_modules()}, dict[str, int]()
    for genome in genomes(net):
        convs = zip(genome.encoded_convs(), genome.decode_macs(), strict=True)
        costs |= {names[conv]: macs for conv, macs in convs if conv in names}  # without layers that were replaced
    counter = Counter(plain, costs)
    with torch.no_grad(), as_written(plain):
        for index, batch in enumerate([images] if isinstance(images, Tensor) else images):
            x = _batch(batch)
            frames = time_first or (isinstance(net, SpikingNetwork) and x.ndim == 5)
            counter.begin(x, steps, frames)
            with Compute(x.device, dtype).autocast(), private_torch_rng(index, x.device):
                on_output(_run(plain, x, steps, frames))
    for number, counts in enumerate(from_all(counter.counts, rank)):
        if number != rank.number:
            counter.add(counts)
    activity = counter.result()
    stored, decoded = (sum(tensor.nbytes for tensor in [*n.parameters(), *n.buffers()]) for n in (net, plain))
    activity.footprint, activity.footprint_decoded = stored if genomes(net) else decoded, decoded
    return activity


def firing_rates(net: nn.Module, x: Tensor, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Spikes per neuron and step after every layer that has neurons, by the layer's name, on one batch ``x`` (B, …)."""
    layers = measure_energy(net, x, dtype).layers
    return {layer.layer: layer.output_rate for layer in layers if layer.output_rate is not None}


def present(net: nn.Module, x: Tensor, steps: int | None = None, time_first: bool = False) -> Tensor:
    """The output of ``net``, with its neurons reset, on a batch that is given to it as ``measure_energy`` does."""
    functional.reset_net(net)
    if steps is not None:
        x = x.expand(steps, *x.shape)
    if (steps is None and not time_first) or any(map(takes_all_steps, net.modules())):
        return net(x)
    return torch.stack([net(step) for step in x])


class Recorded(NamedTuple):
    """What neurons did: spikes and, if they have any, membranes after the reset, (T, B, …), and the layer that they read."""

    spikes: Tensor
    membranes: Tensor | None
    layer: str


@torch.no_grad()
def record(net: nn.Module, x: Tensor, *, steps: int | None = None, time_first: bool = False) -> dict[str, Recorded]:
    """The spikes and membranes of all neurons of a copy of ``net`` on a batch. The mean of the spikes is the firing rate.

    Args:
        net: any network of SpikingJelly neurons, or of ``LIF``. It is not changed.
        x: one batch, which the network gets as from ``measure_energy``.
        steps: as there.
        time_first: as there.

    Returns:
        A ``Recorded`` by the name of the neurons, in order of execution. Of neurons that run several times it is the last run.

    Raises:
        InputError: as of ``measure_energy``.

    Examples:
        >>> net = gee_core.build_network("cifarnet", num_classes=10, n_genes=8, width=0.125)
        >>> gee_core.record(net, torch.rand(2, 3, 32, 32))["stem.norm_lif.lif"].membranes.shape
        torch.Size([4, 2, 32, 32, 32])
    """
    _check(net, steps, time_first)
    x = _batch(x)
    plain, latest, runs, found = for_inference(net), "", dict[str, tuple[str, list[Tensor]]](), dict[str, Recorded]()

    def see(name: str, module: nn.Module, _: object, output: Tensor | tuple[Tensor, ...]) -> None:
        nonlocal latest
        if isinstance(module, Layer):
            latest = name
        else:
            runs.setdefault(name, (latest, []))[1].append(output if isinstance(output, Tensor) else output[0])

    for name, module in plain.named_modules():
        if is_neuron(module) or isinstance(module, Layer):
            module.register_forward_hook(partial(see, name))
            module.store_v_seq = True  # for SpikingJelly: a layer does nothing with it
    with as_written(plain):
        _run(plain, x, steps, time_first)
    for name, (layer, parts) in runs.items():
        neurons = plain.get_submodule(name)
        spikes, membranes = parts[-1] if takes_all_steps(neurons) else torch.stack(parts), getattr(neurons, "v_seq", None)
        found[name] = Recorded(spikes if membranes is None else spikes.reshape(membranes.shape), membranes, layer)
    return found


def _check(net: nn.Module, steps: int | None, time_first: bool) -> None:
    """Raise InputError where ``net`` cannot be measured, or not with these arguments."""
    check_module(net)
    if not any(is_neuron(module) for module in net.modules()):
        raise InputError("the network has no neurons", "build it with those of spikingjelly's neuron, or gee_core.LIF")
    if steps is not None and time_first:
        raise InputError(f"steps = {steps}, time_first = True", "give one of the two: (T, B, …) has its steps")
    if steps is not None and (type(steps) is not int or steps < 1):
        raise InputError(f"steps = {steps!r}", "must be an int >= 1")
    check_values(net)


def _batch(batch: object) -> Tensor:
    """The images of a batch."""
    x = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(x, Tensor):
        raise InputError(f"a batch is a {type(x).__name__}", "give tensors, or tuples that begin with one")
    return x


def _run(net: nn.Module, x: Tensor, steps: int | None, time_first: bool) -> Tensor:
    if not x.isfinite().all():
        raise InputError("a batch holds values that are not finite", "check the images")
    with running_on(x, "a batch", "give it images of the shape that it takes, and steps = T if it takes (T, B, …)"):
        output = present(net, x, steps, time_first)
    parts = output if isinstance(output, tuple | list) else [output]
    if not all(part.isfinite().all() for part in parts if isinstance(part, Tensor)):
        raise InputError("the network puts out values that are not finite", "check its weights and the images")
    return output

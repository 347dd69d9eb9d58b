"""The network and the images that `gee energy` measures, and SpikingJelly's counts on them.

Importing a module runs its code. Only the module on the command line is imported, never one that a file names.

Shapes: B batch, C channels, H W space.
"""

import contextlib
import importlib
import inspect
import math
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from rich.filesize import decimal
from spikingjelly.activation_based.op_counter import (
    DispatchCounterMode,
    LemaireEnergyConfig,
    LemaireEnergyProfiler,
    MACCounter,
    SynOpCounter,
)
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gee_core.config import Events
from gee_core.data.augment import Normalise
from gee_core.data.folders import endings_of
from gee_core.data.meta import Meta, load_meta
from gee_core.errors import InputError, place_in, raises
from gee_core.evaluation.activity import E_AC, E_MAC, PICO_TO_MILLI, Activity, energy_text
from gee_core.evaluation.energy import measure_energy, present
from gee_core.export.model_card import ModelCard
from gee_core.genome.encoding import decode
from gee_core.model.base import Architecture, is_neuron
from gee_core.model.wired import architecture_of
from gee_core.seeding import private_torch_rng
from gee_core.storage.json_object import as_model
from pipelines.commands.prediction import find_images, read_image
from pipelines.inputs.loading import evenly, load_checkpoint, prepared_images, spaced
from pipelines.project.paths import PREPARED
from pipelines.reporting.verdict import percent
from pipelines.runtime.input_errors import PREPARE, remedy

Shape = tuple[int, ...]
"""Of one image."""

BATCH = 32
"""Inputs that the network sees at once."""

MOST_VALUES = 2**28
"""Numbers in all inputs together, which takes 1 GB, and several times that in layers."""

OTHERWISE = "name a network as MODULE:NETWORK, of a module here or of an installed package, or a network.safetensors"
"""The remedy for a name that leads to none."""


class Target(NamedTuple):
    """A network, and the input that it takes."""

    net: nn.Module
    shape: Shape
    steps: int | None
    """How often every image is presented. None for a network that makes its steps itself."""
    num_classes: int | None = None
    """K of a checkpoint."""
    card: ModelCard | None = None
    """The images and classes of a file of genes."""

    def was_trained_on(self, meta: Meta | None) -> bool:
        """Whether the target is a checkpoint for images of the shape and the classes that ``meta`` describes."""
        if meta is None or (self.card and self.card.class_names != meta.class_names):
            return False
        return (self.shape, self.num_classes) == (shape_of(meta), meta.num_classes)


def prepared_meta(required: bool) -> Meta | None:
    """The description of the prepared images, None where there are none, unless they are ``required``."""
    with remedy(PREPARE):
        return load_meta(PREPARED) if required or (PREPARED / "meta.json").is_file() else None


def open_target(here: Path, target: str, shape: Shape | None, steps: int | None, meta: Meta | None) -> Target:
    """The network that ``target`` names: MODULE:NETWORK, or the path of a checkpoint below ``here``.

    A class or function is called with those of ``num_classes``, ``in_channels``, ``image_size`` and ``T`` that its signature
    names, as the pipeline calls `network.name`. ``T`` is among them if there are ``steps``, which it then makes itself.
    The other numbers are those of the images that ``meta`` describes, if any, else of the ``shape`` and ten classes.

    Raises:
        InputError: nothing of this name can be loaded or called, or a checkpoint takes no such ``steps`` or ``shape``.
    """
    shape, classes = (shape_of(meta), meta.num_classes) if meta else (shape, 10)
    if target.endswith(".safetensors"):
        return _open_checkpoint(here, target, shape, steps)
    return _import_network(here, target, shape, steps, classes)


def _import_network(here: Path, target: str, shape: Shape | None, steps: int | None, classes: int) -> Target:
    module, colon, attribute = target.partition(":")
    if not colon:
        raise InputError(f"{target!r}: neither MODULE:NETWORK nor a .safetensors file", OTHERWISE)
    shape, given = shape or (3, 32, 32), dict[str, int]()
    try:
        net = getattr(importlib.import_module(module), attribute)
        if not isinstance(net, nn.Module):
            offered = {"num_classes": classes, "in_channels": shape[0], "image_size": shape[-1], "T": steps}
            taken = inspect.signature(net).parameters
            given = {key: size for key, size in offered.items() if key in taken and size is not None}
            with private_torch_rng(0):
                net = net(**given)
    except (Exception, SystemExit) as error:
        place = place_in([here], error)
        inside = place is not None and place[0] != Path(__file__)
        where = f"{place[0].relative_to(here.absolute())}, {place[1]}" if place and inside else target
        raise InputError(f"{where} {raises(error)}", f"fix it, or {OTHERWISE}") from error
    if not isinstance(net, nn.Module):
        raise InputError(f"{target} returns a {type(net).__name__}, not a torch.nn.Module", "return the network")
    return Target(net, shape, None if "T" in given else steps)


def _open_checkpoint(here: Path, target: str, shape: Shape | None, steps: int | None) -> Target:
    net, values = load_checkpoint(here / target, register=True)
    architecture = architecture_of(net)
    trained_on = shape_of(architecture)
    if steps is not None or (shape is not None and (len(shape), shape[0]) != (3, trained_on[0])):
        problem = f"{target}: makes its {architecture.network.T} steps itself, of images of {sizes(trained_on)} or another size"
        raise InputError(problem, "leave out --steps, and a --shape or --prepared of other images")
    card = None
    with contextlib.suppress(ValueError):  # the library writes files without a description
        card = as_model(values, ModelCard)
    return Target(net, shape or trained_on, None, architecture.num_classes, card)


def read_input(here: Path, folder: Path | None, target: Target, meta: Meta | None, n: int) -> tuple[str, Tensor]:
    """A title, and at most ``n`` images in the shape that ``target`` takes.

    They are those of ``folder``, evenly spaced in the order of their names, else the prepared ones, which ``meta`` describes,
    else random ones. Images are normalised as the network's file says, else as the prepared images if these have the same
    shape, else scaled to values from 0 to 1.
    """
    shape = target.shape
    if folder is None and meta is None:
        _check_memory(n, shape)
        return f"{n:,} random inputs of {sizes(shape)}", torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))
    described = target.card or (meta if meta and (folder is None or shape_of(meta) == shape) else None)
    if folder is None:
        data = prepared_images()
        images = spaced(data.test, n)
        (pixels, _), *_ = images.batches(len(images))
        title = f"{len(images):,} test images of {data.meta.source}, {sizes(shape_of(data.meta))}"
    else:
        pixels = _read_folder(here, folder, shape, described.events if described else None, n)
        title = f"{len(pixels):,} images of {folder}, {sizes(shape)}"
    if described is None:
        return f"{title}, values 0 to 1", pixels / 255
    way = "" if folder is None and not target.card else f", normalised as {'its file says' if target.card else PREPARED}"
    return title + way, Normalise(described.mean, described.std)(pixels)


def _read_folder(here: Path, folder: Path, shape: Shape, events: Events | None, n: int) -> Tensor:
    if len(shape) != 3 or (shape[0] not in (1, 3) and events is None) or shape[1] != shape[2]:
        raise InputError(f"--images: a network for inputs of {sizes(shape)}", "images have a --shape such as 3,32,32")
    files = find_images(here, [folder], endings_of(events))
    files = [files[i] for i in evenly(len(files), n)]
    _check_memory(len(files), (*shape, events.frames) if events else shape)
    return torch.from_numpy(np.stack([read_image(here, path, shape[0], shape[1], events)[0] for path in files]))


def _check_memory(n: int, shape: Shape) -> None:
    if (values := n * math.prod(shape)) > MOST_VALUES:
        problem = f"--n {n}: {n:,} inputs of {sizes(shape)} fill {decimal(4 * values)} of memory"
        raise InputError(problem, f"take --n {max(1, MOST_VALUES // math.prod(shape))} or a smaller --shape")


def shape_of(images: Meta | Architecture) -> Shape:
    """(C, H, W) of an image."""
    return images.in_channels, images.image_size, images.image_size


def sizes(shape: Shape) -> str:
    """Such as ``3 × 32 × 32``."""
    return " × ".join(map(str, shape))


class Measurement(NamedTuple):
    """What a network does on images, as this library and as SpikingJelly count it."""

    activity: Activity
    spikingjelly: dict[str, float]
    """SpikingJelly's multiply-accumulates and synaptic operations per image or recording."""
    memory: dict[str, float]
    """Energy with memory accesses per image in mJ, by part."""
    left_out: list[str]
    """Modules that this estimate leaves out."""

    @property
    def ours(self) -> dict[str, float]:
        """The same counts as those of SpikingJelly."""
        layers = self.activity.layers
        macs = sum(layer.macs * layer.steps for layer in layers if not layer.binary)
        return {"macs": macs, "synops": sum(layer.synops for layer in layers if layer.binary)}

    def as_json(self) -> dict[str, object]:
        """As `gee energy --json` prints it."""
        activity, more = self.activity, ("steps", "synops", "effective", "dense")
        return {
            "energy_mj": activity.energy_mj(),
            "energy_with_decoding_mj": activity.energy_with_decoding_mj(),
            "energy_of_sums_mj": activity.energy_of_sums_mj(),
            "spikes_per_image": activity.spikes_per_image,
            "firing_rate": activity.firing_rate,
            "footprint_decoded": activity.footprint_decoded,
            "neurobench": activity.neurobench(),
            "spikingjelly": self.spikingjelly,
            "same_by_us": self.ours,
            "with_memory_mj": self.memory,
            "not_counted": activity.not_counted,
            "layers": [layer.row(E_MAC, E_AC) | {key: getattr(layer, key) for key in more} for layer in activity.layers],
        }

    def facts(self) -> dict[str, str]:
        """Lines below the table of layers, by their first words."""
        activity, jelly, ours = self.activity, self.spikingjelly, self.ours
        macs, acs, dense = (f"{value:,.0f}" for value in (activity.effective_macs, activity.effective_acs, activity.dense))
        decoded = activity.footprint_decoded
        built = f", {decoded:,} with W built" if decoded != activity.footprint else ""
        total = sum(self.memory.values())
        shares = ", ".join(f"{name} {100 * mj / (total or 1):.2g}\N{NO-BREAK SPACE}%" for name, mj in self.memory.items())
        without = f"; without {', '.join(self.left_out)}" if self.left_out else ""
        return activity.totals() | {
            "NeuroBench": f"effective MACs {macs}, effective ACs {acs}, dense {dense}; "
            f"activation sparsity {percent(activity.activation_sparsity, 1)}, "
            f"connection sparsity {percent(activity.connection_sparsity, 1)}; footprint {activity.footprint:,} bytes{built}",
            "SpikingJelly": f"MACs {jelly['macs']:,.0f} (ours {ours['macs']:,.0f}), "
            f"synaptic operations {jelly['synops']:,.0f} (ours {ours['synops']:,.0f})",
            "with memory": f"{energy_text(total)} per image (SpikingJelly's estimate after Lemaire et al.): {shares}{without}",
        }


def measure(target: Target, x: Tensor) -> Measurement:
    """What ``target`` does on the images ``x`` (B, …), or on recordings (T, B, …)."""
    dim = x.ndim - len(target.shape) - 1  # of the batch: the second one where frames come first
    batches = x.contiguous().split(BATCH, dim)
    activity = measure_energy(target.net, batches, steps=target.steps)
    macs, synops = spikingjelly_counts(target.net, batches, target.steps)
    memory, left_out = lemaire_energy(target.net, x.split(1, dim)[:LEMAIRE_IMAGES], target.steps)
    n = x.shape[dim]
    return Measurement(activity, {"macs": macs / n, "synops": synops / n}, memory, left_out)


def spikingjelly_counts(net: nn.Module, batches: Iterable[Tensor], steps: int | None) -> tuple[int, int]:
    """(multiply-accumulates, synaptic operations) by SpikingJelly, of a decoded copy of ``net`` on ``batches`` (B, …), in all.

    Operations inside batch norm and neurons, which are free in Eq. 17, are left out.
    """
    plain = decode(net).eval()
    free = [_BatchNorm, *{type(module) for module in plain.modules() if is_neuron(module)}]
    macs, synops = MACCounter(extra_ignore_modules=free), SynOpCounter(extra_ignore_modules=free)
    with torch.no_grad(), DispatchCounterMode([macs, synops]):
        for x in batches:
            present(plain, x, steps)
    return macs.get_total(), synops.get_total()


LEMAIRE_IMAGES = 8
"""Most images on which energy with memory is estimated, since each is a pass of its own."""


def lemaire_energy(net: nn.Module, images: Sequence[Tensor], steps: int | None) -> tuple[dict[str, float], list[str]]:
    """Energy with memory accesses per image in mJ, by part, and the modules that the estimate leaves out.

    SpikingJelly's estimate, after Lemaire et al. 2022: 32-bit integer operations in 45 nm, and weights, spikes and membranes
    in one SRAM of its own size for each layer. The ``images``, batches of one, are presented to a decoded copy of ``net``.
    """
    plain = decode(net).eval()
    for module in plain.modules() if steps is None else ():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear) and not hasattr(module, "step_mode"):
            cast(Any, module).step_mode = "m"  # the rows of its input are the steps of one image, which share the membranes
    profiler = LemaireEnergyProfiler(config=LemaireEnergyConfig(strict=False))
    profiler.bind_model(plain)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", "Lemaire formulas do not support")
        with profiler:
            for x in images:
                present(plain, x, steps)
        report = profiler.get_report()
    parts = {"operations": "ops", "addresses": "addressing", "weights": "params", "membranes": "potential", "spikes": "inout"}
    energies = {name: report.breakdown_pj[f"{key}_pj"] * PICO_TO_MILLI / len(images) for name, key in parts.items()}
    left_out = [text.removeprefix("Lemaire formulas do not support ").partition(";")[0] for text in report.warnings]
    return energies, sorted(left_out)

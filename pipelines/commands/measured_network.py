"""The network and the images that `gee energy` measures, and SpikingJelly's counts on them.

Importing a module runs its code. Only the module on the command line is imported, never one that a file names.

Shapes: B batch, C channels, H W space.
"""

import contextlib
import importlib
import inspect
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from spikingjelly.activation_based.op_counter import (
    DispatchCounterMode,
    LemaireEnergyConfig,
    LemaireEnergyProfiler,
    MACCounter,
    SynOpCounter,
)
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gee_core.data.augment import Normalise
from gee_core.data.folders import endings_of
from gee_core.data.meta import Meta, load_meta
from gee_core.errors import InputError, place_in, raises
from gee_core.evaluation.activity import PICO_TO_MILLI
from gee_core.evaluation.energy import present
from gee_core.export.model_card import ModelCard
from gee_core.genome.encoding import decode
from gee_core.model.base import is_neuron
from gee_core.model.wired import Architecture, architecture_of
from gee_core.seeding import private_torch_rng
from gee_core.storage.json_object import as_model
from pipelines.commands.images import find_images, read_image
from pipelines.inputs.loading import evenly, load_checkpoint, prepared_images, spaced
from pipelines.project.paths import PREPARED
from pipelines.runtime.input_errors import PREPARE, remedy

Shape = tuple[int, ...]
"""Of one image."""

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


def open_target(here: Path, target: str, shape: Shape | None, steps: int | None, classes: int) -> Target:
    """The network that ``target`` names: MODULE:NETWORK, or the path of a checkpoint below ``here``.

    A class or function is called with those of ``num_classes``, ``in_channels``, ``image_size`` and ``T`` that its signature
    names, as the pipeline calls `network.name`. ``T`` is among them if there are ``steps``, which it then makes itself.

    Raises:
        InputError: nothing of this name can be loaded or called, or a checkpoint takes no such ``steps`` or ``shape``.
    """
    if target.endswith(".safetensors"):
        return _checkpoint(here, target, shape, steps)
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


def _checkpoint(here: Path, target: str, shape: Shape | None, steps: int | None) -> Target:
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


def folder_images(
    here: Path, folder: Path, target: Target, meta: Meta | None, n: int, options: Normalise | None
) -> tuple[str, Tensor]:
    """A title, and ``n`` images of ``folder``, evenly spaced in the order of their names, in the shape that ``target`` takes.

    They are normalised by the ``options``, else as the network's file says, else as the prepared images, which ``meta``
    describes, if these have the same shape, else scaled to values from 0 to 1.
    """
    shape = target.shape
    described = target.card or (meta if meta and shape_of(meta) == shape else None)
    events = described.events if described else None
    if len(shape) != 3 or (shape[0] not in (1, 3) and events is None) or shape[1] != shape[2]:
        raise InputError(f"--images: a network for inputs of {sizes(shape)}", "images have a --shape such as 3,32,32")
    if options and not len(options.mean) == len(options.std) == shape[0]:
        problem = f"--mean, --std: {len(options.mean)} and {len(options.std)} numbers for images of {sizes(shape)}"
        raise InputError(problem, f"give {shape[0]} each, one per channel")
    files = find_images(here, [folder], endings_of(events))
    files = [files[i] for i in evenly(len(files), n)]
    pixels = torch.from_numpy(np.stack([read_image(here, path, shape[0], shape[1], events)[0] for path in files]))
    title = f"{len(files):,} images of {folder}, {sizes(shape)}"
    if options is not None:
        return f"{title}, normalised as given", options(pixels)
    if described is None:
        return f"{title}, values 0 to 1", pixels / 255
    return f"{title}, normalised as {'its file says' if target.card else PREPARED}", _normalise(described)(pixels)


def prepared_test_images(target: Target, n: int) -> tuple[str, Tensor]:
    """A title, and ``n`` test images of this project, normalised as the network's file says, else as they were prepared."""
    data = prepared_images()
    images = spaced(data.test, n)
    way = ", normalised as its file says" if target.card else ""
    title = f"{len(images):,} test images of {data.meta.source}, {sizes(shape_of(data.meta))}{way}"
    (batch, _), *_ = images.batches(len(images))
    return title, _normalise(target.card or data.meta)(batch)


def prepared_meta(required: bool) -> Meta | None:
    """The description of the prepared images. Where there are none, None, or InputError if they are ``required``."""
    with remedy(PREPARE):
        return load_meta(PREPARED) if required or (PREPARED / "meta.json").is_file() else None


def _normalise(described: Meta | ModelCard) -> Normalise:
    return Normalise(described.mean, described.std)


def shape_of(images: Meta | Architecture) -> Shape:
    """(C, H, W) of an image."""
    return images.in_channels, images.image_size, images.image_size


def sizes(shape: Shape) -> str:
    """Such as ``3 × 32 × 32``."""
    return " × ".join(map(str, shape))


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


def lemaire_energy(net: nn.Module, images: Tensor, steps: int | None) -> tuple[dict[str, float], list[str]]:
    """Energy with memory accesses per image in mJ, by part, and the modules that the estimate leaves out.

    SpikingJelly's estimate, after Lemaire et al. 2022: 32-bit integer operations in 45 nm, and weights, spikes and membranes
    in one SRAM of its own size for each layer. ``images`` (B, …) are presented to a decoded copy of ``net`` one at a time.
    """
    plain, few = decode(net).eval(), images[:LEMAIRE_IMAGES].split(1)
    for module in plain.modules() if steps is None else ():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear) and not hasattr(module, "step_mode"):
            cast(Any, module).step_mode = "m"  # the rows of its input are the steps of one image, which share the membranes
    profiler = LemaireEnergyProfiler(config=LemaireEnergyConfig(strict=False))
    profiler.bind_model(plain)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", "Lemaire formulas do not support")
        with profiler:
            for x in few:
                present(plain, x, steps)
        report = profiler.get_report()
    parts = {"operations": "ops", "addresses": "addressing", "weights": "params", "membranes": "potential", "spikes": "inout"}
    energies = {name: report.breakdown_pj[f"{key}_pj"] * PICO_TO_MILLI / len(few) for name, key in parts.items()}
    left_out = [text.removeprefix("Lemaire formulas do not support ").partition(";")[0] for text in report.warnings]
    return energies, sorted(left_out)

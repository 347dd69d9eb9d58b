"""The command `gee energy`. Heavy imports wait until it runs."""

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from gee_core.errors import InputError, printable
from gee_core.evaluation.activity import E_AC, E_MAC
from pipelines.commands import run_networks

Number = TypeVar("Number", int, float)


def energy(
    context: typer.Context,
    network: Annotated[str, typer.Argument(help="MODULE:NETWORK, or the .safetensors file of a trained network.")],
    images: Annotated[Path | None, typer.Option(help="A folder with images or recordings, at any depth.")] = None,
    mean: Annotated[
        str | None, typer.Option(help="Means by which images are normalised, one per channel: 0.485,0.456,0.406.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviations, likewise.")] = None,
    prepared: Annotated[bool, typer.Option("--prepared", help="Take the project's test images (data/prepared).")] = False,
    shape: Annotated[str | None, typer.Option(help="Shape of one input (default: 3,32,32, or the checkpoint's).")] = None,
    n: Annotated[int, typer.Option("--n", min=1, max=10**6, help="Measure at most this many images.")] = 64,
    batch_size: Annotated[int, typer.Option(min=1, max=10**5, help="Images per batch.")] = 32,
    steps: Annotated[int | None, typer.Option(min=1, max=10**4, help="Time steps T, if the network makes none itself.")] = None,
    classes: Annotated[int, typer.Option(min=1, max=10**6, help="num_classes, for a class that takes it.")] = 10,
    e_mac: Annotated[float, typer.Option(min=0, max=1e6, help="pJ per multiply-accumulate.")] = E_MAC,
    e_ac: Annotated[float, typer.Option(min=0, max=1e6, help="pJ per accumulate.")] = E_AC,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Count operations, spikes and theoretical energy of any SpikingJelly network.

    MODULE is imported from the current folder or an installed package, which runs its code.
    NETWORK is a module, or a class or function that returns one.
    These are called with num_classes, in_channels, image_size and T, as far as they take them.
    With --steps, each image is presented that many times, but once to a class that takes T.
    Without images the input is random, and its rates say little.

    gee energy my_net:MyVGG --images photos --shape 3,64,64 --steps 4
    gee energy my_net:trained --prepared --json
    gee energy models/train/network.safetensors
    """
    os.environ.setdefault("GEE_COMPILE", "0")  # compiling takes longer than a few batches
    from gee_core.data.augment import Normalise
    from pipelines.commands import measured_network as measured

    here: Path = context.obj  # the folder in which the command was called; it runs in the project folder
    if prepared and (images is not None or shape is not None):
        raise InputError("--prepared: has images and a shape of its own", "leave out --images and --shape, or --prepared")
    if (mean is None) != (std is None) or (mean is not None and images is None):
        raise InputError("--mean, --std: normalise --images, both together", "give all three, or --images alone")
    means, stds = _read_numbers("--mean", mean, float), _read_numbers("--std", std, float)
    sizes = _read_numbers("--shape", shape, int)
    sys.path.insert(0, str(here))
    sys.dont_write_bytecode = True  # in the folder of the user's module
    with run_networks(as_json):
        target, meta = measured.open_target(here, network, sizes, steps, classes, prepared)
        if images is None and not prepared and (shape is not None or not target.was_trained_on(meta)):
            meta = None
        options = Normalise(means, stds) if means and stds else None
        title, x = measured.read_input(here, images, target, meta, n, options)
        result = measured.measure(target, x, batch_size)
    is_random = images is None and meta is None
    warnings = ["random input: rates and energies on your own --images will differ"] if is_random else []
    if steps is None and all(layer.steps == 1 for layer in result.activity.layers):
        warnings.append("every layer ran once: a network that makes no steps itself needs --steps T")
    if silent := result.activity.silent:
        names = f"{', '.join(silent[:3])}{', …' if silent[3:] else ''}"
        train = "train the network first, or let its batch norms see images in training mode"
        warnings.append(f"{len(silent)} of {len(result.activity.layers)} layers get no spikes ({names}): {train}")
    for warning in warnings:
        print(f"gee: warning: {warning}", file=sys.stderr)
    if as_json:
        print(json.dumps({"network": network, "input": title} | result.as_json(e_mac, e_ac), allow_nan=False))
    else:
        print(printable(f"{network}, {title}"), result.activity.table(e_mac, e_ac), "", sep="\n")
        for name, text in result.facts(e_mac, e_ac).items():
            print(f"{name:<13} {text}")


def _read_numbers(option: str, text: str | None, kind: Callable[[str], Number]) -> tuple[Number, ...] | None:
    """Numbers above 0 with commas between them, as ``3,32,32``, if there is a ``text``. A mean may be 0."""
    if text is None:
        return None
    try:
        values = tuple(map(kind, text.split(",")))
    except ValueError:
        values = ()
    if not values or not all(0 < value < math.inf or (value == 0 and option == "--mean") for value in values):
        problem = f"{option} {text!r}: not {'whole ' * (kind is int)}numbers above 0 with commas between them"
        raise InputError(problem, f"write for instance {option} {'3,32,32' if kind is int else '0.5,0.5,0.5'}")
    return values

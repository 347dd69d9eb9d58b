"""The command `gee energy`. Heavy imports wait until it runs."""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gee_core.errors import InputError, printable
from pipelines.commands import run_networks

if TYPE_CHECKING:
    from gee_core.evaluation.activity import Activity


def energy(
    context: typer.Context,
    network: Annotated[str, typer.Argument(help="MODULE:NETWORK, or the .safetensors file of a trained network.")],
    images: Annotated[Path | None, typer.Option(help="A folder with images or recordings, at any depth.")] = None,
    prepared: Annotated[bool, typer.Option("--prepared", help="Take the project's test images (data/prepared).")] = False,
    shape: Annotated[str | None, typer.Option(help="Shape of one input (default: 3,32,32, or the checkpoint's).")] = None,
    n: Annotated[int, typer.Option("--n", min=1, max=10**6, help="Measure at most this many images.")] = 64,
    steps: Annotated[int | None, typer.Option(min=1, max=10**4, help="Time steps T, unless the network runs them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Count operations, spikes and theoretical energy of any SpikingJelly network.

    MODULE is imported from the current folder or an installed package, which runs its code.
    NETWORK is a module, or a class or function that returns a module.
    A class or function gets num_classes, in_channels, image_size and T, if it takes them.
    With --steps, each image is presented that many times, but once to a class that takes T.
    Without images the input is random, so the firing rates say little.

    gee energy my_net:MyVGG --images photos --shape 3,64,64 --steps 4
    gee energy my_net:trained --prepared --json
    gee energy models/train/network.safetensors
    """
    os.environ.setdefault("GEE_COMPILE", "0")  # compiling takes longer than a few batches
    from pipelines.commands import measured_network as measured

    here: Path = context.obj  # the folder in which the command was called; it runs in the project folder
    if prepared and (images is not None or shape is not None):
        raise InputError("--prepared: has images and a shape of its own", "leave out --images and --shape, or --prepared")
    sys.path.insert(0, str(here))
    sys.dont_write_bytecode = True  # in the folder of the user's module
    with run_networks(as_json):
        meta = measured.prepared_meta(prepared)
        target = measured.open_target(here, network, _read_shape(shape), steps, meta if prepared else None)
        if images is None and not prepared and (shape is not None or not target.was_trained_on(meta)):
            meta = None
        title, x = measured.read_input(here, images, target, meta, n)
        result = measured.measure(target, x)
    for warning in _find_warnings(result.activity, is_random=images is None and meta is None, steps=steps):
        print(f"gee: warning: {warning}", file=sys.stderr)
    if as_json:
        print(json.dumps({"network": network, "input": title} | result.as_json(), allow_nan=False))
    else:
        print(printable(f"{network}, {title}"), result.activity.table(), "", sep="\n")
        for name, text in result.facts().items():
            print(f"{name:<13} {text}")


def _find_warnings(activity: "Activity", is_random: bool, steps: int | None) -> list[str]:
    """What makes the numbers say less than they seem to."""
    warnings = ["random input: rates and energies on your own --images will differ"] if is_random else []
    if steps is None and all(layer.steps == 1 for layer in activity.layers):
        warnings.append("every layer ran once: a network that makes no steps itself needs --steps T")
    if silent := activity.silent:
        names = f"{', '.join(silent[:3])}{', …' if silent[3:] else ''}"
        train = "train the network first, or let its batch norms see images in training mode"
        warnings.append(f"{len(silent)} of {len(activity.layers)} layers get no spikes ({names}): {train}")
    return warnings


def _read_shape(text: str | None) -> tuple[int, ...] | None:
    """A ``text`` such as ``3,32,32``, if there is one."""
    with contextlib.suppress(ValueError):
        shape = None if text is None else tuple(map(int, text.split(",")))
        if shape is None or min(shape) > 0:
            return shape
    raise InputError(
        f"--shape {text!r}: not whole numbers above 0 with commas between them", "write for instance --shape 3,32,32"
    )

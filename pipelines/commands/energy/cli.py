"""The command `gee energy`. Heavy imports wait until it runs."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gee_core.evaluation.activity import E_AC, E_MAC
from pipelines.commands.json_output import json_alone


def energy(
    context: typer.Context,
    network: Annotated[str, typer.Argument(help="MODULE:NETWORK, or the .safetensors file of a trained network.")],
    images: Annotated[Path | None, typer.Option(help="A folder with images, at any depth.")] = None,
    mean: Annotated[str | None, typer.Option(help="Of each channel, to normalise images: 0.485,0.456,0.406.")] = None,
    std: Annotated[str | None, typer.Option(help="The standard deviations to it.")] = None,
    prepared: Annotated[bool, typer.Option("--prepared", help="Take the project's test images (data/prepared).")] = False,
    shape: Annotated[str | None, typer.Option(help="Sizes of one input (default: 3,32,32, or the checkpoint's).")] = None,
    n: Annotated[int, typer.Option("--n", min=1, max=10**6, help="Most images to measure on.")] = 64,
    batch_size: Annotated[int, typer.Option(min=1, max=10**5, help="Images that the network sees at once.")] = 32,
    steps: Annotated[int | None, typer.Option(min=1, max=10**4, help="T, if the network makes no steps itself.")] = None,
    classes: Annotated[int, typer.Option(min=1, max=10**6, help="num_classes, for a class that takes it.")] = 10,
    e_mac: Annotated[float, typer.Option(min=0, max=1e6, help="pJ per multiply-accumulate.")] = E_MAC,
    e_ac: Annotated[float, typer.Option(min=0, max=1e6, help="pJ per accumulate.")] = E_AC,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Count operations, spikes and theoretical energy of any SpikingJelly network.

    MODULE is imported from the current folder or an installed package, which runs its code.
    NETWORK is a module, or a class or function that returns one.
    It is called with those of num_classes, in_channels, image_size and T that it takes.
    With --steps, each image is presented T times, to a class that takes T only once.
    Without images the input is random: rates on it say little.

    gee energy my_net:MyVGG --images photos --shape 3,64,64 --steps 4
    gee energy my_net:trained --prepared --json
    gee energy models/train/network.safetensors
    """
    os.environ.setdefault("GEE_COMPILE", "0")  # compiling takes longer than a few batches
    from gee_core.errors import InputError
    from gee_core.evaluation.energy import measure_energy
    from gee_core.export.quiet import without_logs
    from pipelines.commands.energy import inputs
    from pipelines.commands.energy.counters import spikingjelly_counts
    from pipelines.commands.energy.display import as_dict, show
    from pipelines.commands.energy.target import importable, open_target

    here: Path = context.obj  # the folder in which the command was called; it runs in the project folder
    if prepared and (images is not None or shape is not None):
        raise InputError("--prepared: has images and a shape of its own", "leave out --images and --shape, or --prepared")
    sizes = None if shape is None else inputs.parse_shape(shape, batch_size)
    normalise = inputs.parse_normalise(mean, std)
    if normalise is not None and images is None:
        raise InputError("--mean, --std: no --images to normalise", "name a folder with --images, or leave them out")
    if prepared:
        sizes = inputs.prepared_shape()
    silence = without_logs("torch._library.triton")  # SpikingJelly asks for Triton, and does without
    with silence, importable(here), json_alone(as_json):
        target = open_target(here, network, sizes, steps, classes)
        if images is not None:
            shown = inputs.folder_images(here, images, target.shape, n, batch_size, target.normalise, normalise)
        elif prepared or (
            shape is None and target.num_classes and inputs.prepared_for(target.shape, target.num_classes, target.card)
        ):
            shown = inputs.prepared_test_images(n, batch_size, target.normalise)
        else:
            shown = inputs.random_images(target.shape, n, batch_size)
        seen = 0

        def counted():
            nonlocal seen
            for batch in shown.batches():
                seen += len(batch)
                yield batch

        activity = measure_energy(target.net, counted(), steps=target.steps)
        macs, synops = spikingjelly_counts(target.net, shown.batches(), target.steps)
    if steps is None and all(layer.steps == 1 for layer in activity.layers):
        print("gee: warning: every layer ran once: a network that makes no steps itself needs --steps T", file=sys.stderr)
    if silent := activity.silent:
        print(
            f"gee: warning: {len(silent)} of {len(activity.layers)} layers get no spikes ({', '.join(silent[:3])}"
            f"{', …' if silent[3:] else ''}): train the network first, or let its batch norms see images in training mode",
            file=sys.stderr,
        )
    if shown.random:
        print("gee: warning: random input: rates and energies on your own --images will differ", file=sys.stderr)
    jelly = {"macs": macs / seen, "synops": synops / seen}
    if as_json:
        result = {"network": network, "input": shown.title, **as_dict(activity, jelly, e_mac, e_ac)}
        print(json.dumps(result, allow_nan=False))
    else:
        show(f"{network}, {shown.title}", activity, jelly, e_mac, e_ac)

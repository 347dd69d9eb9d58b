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
from gee_core.evaluation.activity import E_AC, E_MAC, Activity, energy_text
from pipelines.commands import json_alone

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
    import torch

    from gee_core.data.augment import Normalise
    from gee_core.evaluation.energy import measure_energy
    from gee_core.genome.copying import without_logs
    from pipelines.commands import measured_network as measured

    here: Path = context.obj  # the folder in which the command was called; it runs in the project folder
    if prepared and (images is not None or shape is not None):
        raise InputError("--prepared: has images and a shape of its own", "leave out --images and --shape, or --prepared")
    if (mean is None) != (std is None) or (mean is not None and images is None):
        raise InputError("--mean, --std: normalise --images, both together", "give all three, or --images alone")
    options = None
    if mean is not None and std is not None:
        options = Normalise(_numbers("--mean", mean, float), _numbers("--std", std, float))
    meta = measured.prepared_meta(required=prepared)
    sizes = None if shape is None else _numbers("--shape", shape, int)
    sizes = measured.shape_of(meta) if prepared and meta else sizes
    sys.path.insert(0, str(here))
    sys.dont_write_bytecode = True  # in the folder of the user's module
    with without_logs("torch._library.triton"), json_alone(as_json):  # SpikingJelly asks for Triton, and does without
        target = measured.open_target(here, network, sizes, steps, classes)
        if images is not None:
            title, x = measured.folder_images(here, images, target, meta, n, options)
        elif prepared or (shape is None and target.was_trained_on(meta)):
            title, x = measured.prepared_test_images(target, n)
        else:
            title = f"{n:,} random inputs of {measured.sizes(target.shape)}"
            x = torch.rand(n, *target.shape, generator=torch.Generator().manual_seed(0))
            _warn("random input: rates and energies on your own --images will differ")
        dim = x.ndim - len(target.shape) - 1  # of the batch: the second one where frames come first
        batches = x.contiguous().split(batch_size, dim)
        activity = measure_energy(target.net, batches, steps=target.steps)
        counts = measured.spikingjelly_counts(target.net, batches, target.steps)
        memory, left_out = measured.lemaire_energy(target.net, x, target.steps)
    if steps is None and all(layer.steps == 1 for layer in activity.layers):
        _warn("every layer ran once: a network that makes no steps itself needs --steps T")
    if silent := activity.silent:
        names = f"{', '.join(silent[:3])}{', …' if silent[3:] else ''}"
        train = "train the network first, or let its batch norms see images in training mode"
        _warn(f"{len(silent)} of {len(activity.layers)} layers get no spikes ({names}): {train}")
    macs = sum(layer.macs * layer.steps for layer in activity.layers if not layer.binary)
    ours = {"macs": macs, "synops": sum(layer.synops for layer in activity.layers if layer.binary)}
    jelly = {name: count / x.shape[dim] for name, count in zip(ours, counts, strict=True)}
    if as_json:
        more = ("steps", "synops", "effective", "dense")
        result = {
            "network": network,
            "input": title,
            "energy_mj": activity.energy_mj(e_mac, e_ac),
            "energy_with_decoding_mj": activity.energy_with_decoding_mj(e_mac, e_ac),
            "energy_of_sums_mj": activity.energy_of_sums_mj(e_ac),
            "spikes_per_image": activity.spikes_per_image,
            "firing_rate": activity.firing_rate,
            "footprint_decoded": activity.footprint_decoded,
            "neurobench": activity.neurobench(),
            "spikingjelly": jelly,
            "same_by_us": ours,
            "with_memory_mj": memory,
            "not_counted": activity.not_counted,
            "layers": [layer.row(e_mac, e_ac) | {key: getattr(layer, key) for key in more} for layer in activity.layers],
        }
        print(json.dumps(result, allow_nan=False))
        return
    print(printable(f"{network}, {title}"), activity.table(e_mac, e_ac), "", sep="\n")
    facts = _facts(activity, jelly, ours) | {"with memory": _memory_text(memory, left_out)}
    for name, text in {**activity.totals(e_mac, e_ac), **facts}.items():
        print(f"{name:<13} {text}")


def _numbers(option: str, text: str, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    """Numbers above 0 with commas between them, as ``3,32,32``. A mean may be 0."""
    try:
        values = tuple(map(kind, text.split(",")))
    except ValueError:
        values = ()
    if not values or not all(0 < value < math.inf or (value == 0 and option == "--mean") for value in values):
        problem = f"{option} {text!r}: not {'whole ' * (kind is int)}numbers above 0 with commas between them"
        raise InputError(problem, f"write for instance {option} {'3,32,32' if kind is int else '0.5,0.5,0.5'}")
    return values


def _warn(text: str) -> None:
    print(f"gee: warning: {text}", file=sys.stderr)


def _memory_text(parts: dict[str, float], left_out: list[str]) -> str:
    total = sum(parts.values())
    shares = ", ".join(f"{name} {100 * mj / (total or 1):.2g}\N{NO-BREAK SPACE}%" for name, mj in parts.items())
    without = f"; without {', '.join(left_out)}" if left_out else ""
    return f"{energy_text(total)} per image (SpikingJelly's estimate after Lemaire et al.): {shares}{without}"


def _facts(activity: Activity, jelly: dict[str, float], ours: dict[str, float]) -> dict[str, str]:
    from pipelines.reporting.summary import percent

    macs, acs, dense = (f"{value:,.0f}" for value in activity.neurobench()["synaptic_operations"].values())
    facts = {
        "NeuroBench": f"effective MACs {macs}, effective ACs {acs}, dense {dense}; "
        f"activation sparsity {percent(activity.activation_sparsity, 1)}, "
        f"connection sparsity {percent(activity.connection_sparsity, 1)}; footprint {activity.footprint:,} bytes",
        "SpikingJelly": f"MACs {jelly['macs']:,.0f} (ours {ours['macs']:,.0f}), "
        f"synaptic operations {jelly['synops']:,.0f} (ours {ours['synops']:,.0f})",
    }
    if activity.footprint_decoded != activity.footprint:
        facts["NeuroBench"] += f", {activity.footprint_decoded:,} with W built"
    return facts

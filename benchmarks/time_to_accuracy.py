"""Seconds of training until the test accuracy on CIFAR-10 passes 60, 70 and 80 %: this project's recipe against the usual one.

    python -m benchmarks.time_to_accuracy [curves] [times] [result] --state FOLDER [--data FOLDER] [--json]
        [--preset cifar10-small] [--set section.key=value] [--epochs N] [--standard-epochs N] [--seeds 1] [--rounds 5]
        [--contender NAME] [--layers spikingjelly] [--lr NAME=VALUE]

Contenders, all the same network (CIFARNet x 0.25):
    genetic, unencoded    this library, recipe of the preset; the wiring is the analytic one with the shape of `network.init`
    spikingjelly_default  SpikingJelly's neurons, float32, contiguous layout, the standard recipe: AdamW, cosine with warm-up,
                          crops with a padding of 4 and flips, 32 pixels, T = 4, label smoothing 0.1
    spikingjelly_best     the same in bf16 autocast, channels-last
    spikingjelly_ilif     the same with SpikingJelly's ILIFNode, D = 4, T = 1

curves  The test accuracy at full size and T after every epoch, for every contender and seed: hours, which other programs on the
        machine do not disturb. A second call goes on where a killed one was. One curve serves both contenders with LIF neurons:
        all are computed with this library's layers, which compute the same function (tests/gee_core/snn compares spikes and
        gradients, tests/benchmarks a training step); `--layers spikingjelly` trains SpikingJelly's own. The learning rates of
        SpikingJelly's recipe and of `unencoded` are chosen on the hold-out first (`--lr NAME=VALUE` skips that, NAME one of
        genetic, unencoded, spikingjelly, spikingjelly_ilif); that of `genetic` is the preset's.
times   The step (augmentation, forward, backward, optimiser) of every contender at every size and T of its recipe, interleaved
        in one run, medians, and what follows the last epoch (`train.norm_images`): a minute, on a quiet machine. Compiling and
        evaluation are not counted. Every call adds a measurement: a process keeps the memory that it happened to get, and two
        differ by a tenth.
result  Printed after each call: the sum, over the epochs up to the first that passes, of images x seconds per image (the median
        of the measurements; ratios also by measurement). The median over seeds of which half do not pass is None.
"""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy_contenders import CONTENDERS, INTEGERS, SHARED, curve_name, sections_of, with_epochs
from benchmarks.accuracy_curves import curve_path, make_curves, read_curve, tried_rates
from benchmarks.accuracy_times import Times, middle_times, named, reached, step_times
from gee_core.config import PrepareConfig
from gee_core.data.prepared import Prepared, load_prepared
from gee_core.errors import InputError
from gee_core.hardware import cpu_name
from gee_core.memory import keep_freed_memory
from gee_core.storage.atomic_files import write_json
from gee_core.storage.json_object import read_json_object
from pipelines import prepare
from pipelines.project.params import check_params, overridden
from pipelines.project.presets import load_preset
from pipelines.project.safe_yaml import parse_changes

PHASES = ("curves", "times", "result")
TARGETS = (0.6, 0.7, 0.8)
NETWORK = {"name": "cifarnet", "block": None, "width": 0.25}
IMAGES = {"dataset": "cifar10", "image_size": None, "max_train_images": None, "max_test_images": None, "holdout": 0.1}
"""Of all 50,000 training images, 5,000 are the hold-out, on which learning rates are chosen."""


RATIOS = {
    "vs_spikingjelly_default": ("spikingjelly_default", "genetic", 2),
    "vs_spikingjelly_best": ("spikingjelly_best", "genetic", 2),
    "vs_spikingjelly_ilif": (INTEGERS, "genetic", 2),
    "genetic_over_unencoded": ("genetic", "unencoded", 3),
}
"""Seconds of one contender over those of another, and the number of decimals."""


def recipe_values(preset: str, changes: list[str], epochs: int | None, data: str | None) -> dict:
    """The sections of params.yaml for `genetic`: those of a preset with this benchmark's network and images.

    Raises:
        InputError: the preset is unknown, or the result is not valid.
    """
    values = load_preset(preset, data).values
    values["network"] |= NETWORK
    values["prepare"] |= IMAGES
    values = overridden(values, parse_changes(changes), "--set")
    if epochs is not None:
        values["train"] = with_epochs(values["train"], epochs)
    check_params(values, f"presets/{preset}.yaml")
    return values


def prepared(cfg: PrepareConfig, state: Path) -> Prepared:
    """The images, prepared in the folder ``state`` at the first call.

    Raises:
        InputError: their folder is missing, or others are prepared in ``state``.
    """
    folder, about = state / "prepared", state / "prepare.json"
    wanted = cfg.model_dump(mode="json", exclude={"path"})
    if not folder.is_dir():
        if not Path(cfg.path).is_dir():
            raise InputError(f"{cfg.path}: no such folder", "name the folder with CIFAR-10 as --data")
        prepare.run(cfg, folder)
        write_json(about, wanted)
    if not about.is_file() or read_json_object(about) != wanted:
        raise InputError(f"{folder}: images of another section `prepare`", "choose another --state, or delete that folder")
    return load_prepared(folder)


def median_or_none(values: Sequence[float | None]) -> float | None:
    """The median, where None is more than any number; None if it is not a number, and of an empty list."""
    median = statistics.median(math.inf if value is None else value for value in values) if values else math.inf
    return None if math.isinf(median) else median


def compare(curves: dict[str, list[list[dict]]], times: Times, targets: tuple[float, ...] = TARGETS) -> dict:
    """Seconds, images and ratios for every target, from the rows of every seed by contender."""
    result: dict[str, Any] = {}
    for target in targets:
        found = {name: [reached(rows, target, times, name) for rows in seeds] for name, seeds in curves.items()}
        seconds = {name: [None if one is None else one[0] for one in seeds] for name, seeds in found.items()}
        images = {name: [None if one is None else one[1] for one in seeds] for name, seeds in found.items()}
        middle = {name: median_or_none(values) for name, values in seconds.items()}
        result[f"to_{round(100 * target)}"] = {
            "seconds": {name: [_rounded(value, 1) for value in values] for name, values in seconds.items()},
            "median_seconds": {name: _rounded(value, 1) for name, value in middle.items()},
            "images": images,
            "median_images": {name: median_or_none(values) for name, values in images.items()},
            **{name: _ratio(middle, *sides) for name, sides in RATIOS.items()},
        }
    return result


def _ratio(seconds: dict[str, float | None], above: str, below: str, digits: int) -> float | None:
    a, b = seconds.get(above), seconds.get(below)
    return None if a is None or not b else round(a / b, digits)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def result(state: Path, layers: str, n_seeds: int) -> dict:
    """What the curves and times in ``state`` say; contenders and seeds without a curve are left out.

    Raises:
        InputError: a file is damaged, or the times are of another network or batch size than the curves.
    """
    path = state / "times.json"
    about = read_json_object(path) if path.is_file() else {"of": {}}
    measured = [one["rows"] for one in about.get("measured", [])]
    times = middle_times(measured)
    paths = {name: [curve_path(state, curve_name(name, layers), seed) for seed in range(n_seeds)] for name in CONTENDERS}
    found = {name: [curve for path in its if (curve := read_curve(path))] for name, its in paths.items()}
    curves = {name: its for name, its in found.items() if its}
    for name in about["of"].keys() & curves.keys():
        if any(timed_with(curve["identity"]) != about["of"][name] for curve in curves[name]):
            raise InputError(f"{path}: times of another network or batch size than {name}'s curve", "run `times` again")
    rows = {name: [curve["rows"] for curve in its] for name, its in curves.items()}
    targets, single = compare(rows, times), [compare(rows, middle_times([one])) for one in measured]
    for target, summary in targets.items():
        summary["by_measurement"] = {name: [one[target][name] for one in single] for name in RATIOS}
    return {
        **targets,
        "accuracy": {name: [_last(curve) for curve in its] for name, its in curves.items()},
        "epochs": {name: [_epochs(curve) for curve in its] for name, its in curves.items()},
        "lr": {name: its[0]["identity"]["train"]["lr"] for name, its in curves.items()},
        "rates_tried": tried_rates(state),
        "layers": layers,
        "rows": [named(key) | {"seconds_per_image": value} for key, value in times.items()],
        "times": about,
    }


def add_measurement(path: Path, about: dict, measurement: dict) -> None:
    """Add to the measurements of step times in the file ``path``, or begin anew where those are not of the same ``about``."""
    found = read_json_object(path) if path.is_file() else {}
    measured = found.pop("measured", [])
    write_json(path, about | {"measured": [*(measured if found == about else []), measurement]})


def timed_with(sections: dict) -> dict:
    """What the time of a step depends on, besides contender, size and T."""
    network = {key: sections["network"][key] for key in ("name", "block", "pool", "width", "n_genes")}
    return network | {"batch_size": sections["train"]["batch_size"]}


def _epochs(curve: dict) -> str:
    return f"{len(curve['rows'])} of {curve['epochs']}" + (", then diverged" if curve["diverged"] else "")


def _last(curve: dict) -> float | None:
    return round(curve["rows"][-1]["test_accuracy"], 4) if curve["rows"] else None


def show(found: dict) -> None:
    """Print a line per contender and target, then the ratios."""
    for target in [key for key in found if key.startswith("to_")]:
        about = found[target]
        print(f"\n{target}")
        for name in about["seconds"]:
            medians_of = f"{about['median_seconds'][name]} s, {about['median_images'][name]} images"
            print(f"  {name:22} {medians_of}; by seed {about['seconds'][name]}")
        for key, by_measurement in about["by_measurement"].items():
            print(f"  {key:22} {about[key]}; by measurement {by_measurement}")
    for key in ("accuracy", "epochs", "lr"):
        print(f"\n{key}")
        for name, value in found[key].items():
            print(f"  {name:22} {value}")
    print("\nlearning rates that were tried, and times")
    for row in [*found["rates_tried"], *found["rows"]]:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


def run(arguments: argparse.Namespace) -> dict:
    """The phases that were asked for, then the result.

    Raises:
        InputError: a name is unknown, a value is not valid, or the images are missing.
    """
    for kind, given, known in (("phase", arguments.phases, PHASES), ("contender", arguments.contender, CONTENDERS)):
        if unknown := [name for name in given if name not in known]:
            raise InputError(f"unknown {kind} {unknown[0]!r}", f"choose one of {', '.join(known)}")
    phases, state = arguments.phases or PHASES, arguments.state
    values = recipe_values(arguments.preset, arguments.set, arguments.epochs, arguments.data)
    sections = {name: sections_of(values, name, arguments.standard_epochs) for name in (*CONTENDERS, SHARED)}
    if {"curves", "times"} & set(phases):
        data = prepared(check_params(values, "--set").prepare, state)
        if "curves" in phases:
            make_curves(arguments, sections, data)
        if "times" in phases:
            machine = {
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "machine": cpu_name(),
            }
            of = {name: timed_with(sections[name]) for name in CONTENDERS}
            measurement = {"rounds": arguments.rounds, "rows": step_times(sections, data, arguments.rounds)}
            add_measurement(state / "times.json", machine | {"of": of}, measurement)
    elif not state.is_dir():
        raise InputError(f"{state}: no such folder", "name the one that `curves` filled as --state")
    return result(state, arguments.layers, arguments.seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phases", nargs="*", metavar="phase", help=f"{', '.join(PHASES)}; default: all")
    parser.add_argument("--state", type=Path, required=True, help="folder of curves, times and states")
    parser.add_argument("--data", help="folder with CIFAR-10, as `prepare.path`; default: the preset's")
    parser.add_argument(
        "--preset", default="cifar10-small", help="whose sections `network` and `train` are this project's recipe"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the preset")
    parser.add_argument("--epochs", type=int, help="of both recipes; default: the preset's")
    parser.add_argument("--standard-epochs", type=int, help="of SpikingJelly's recipe; default: as many as the other's")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="of `times`")
    parser.add_argument("--contender", action="append", default=[], help=f"{', '.join(CONTENDERS)}; default: all")
    parser.add_argument(
        "--layers", choices=("fused", SHARED), default="fused", help="that SpikingJelly's curves are trained with"
    )
    parser.add_argument("--lr", action="append", default=[], metavar="NAME=VALUE", help="do not choose this one")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    keep_freed_memory()
    try:
        found = run(arguments)
    except InputError as error:
        raise SystemExit(f"time_to_accuracy: {error}") from None
    show(found)
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()

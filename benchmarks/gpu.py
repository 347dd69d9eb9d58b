"""The measurements on a GPU, in one go: training steps, candidates side by side, a training run.

    python -m benchmarks.gpu [--minutes 8] [--state FOLDER] [--data FOLDER] [--device cpu] [--json]

The parts run in this order, each with its share of the minutes. Later parts use the time that earlier parts leave over:
    training_step  ResNet-19 with 100 genes and CIFARNet with 100 genes, batch 128, forward and backward: genetic, plain,
                   SpikingJelly's neurons in each of its implementations that runs here, the convolutions alone; medians of
                   interleaved rounds, each ended by a synchronisation, as images per second and ratios
    candidates     candidates per hour (CIFARNet, 4,096 images, two epochs) with 1, 2, 4 and 8 processes side by side
    training       CIFARNet with 100 genes, the recipe of the preset cifar10-paper without RandAugment, whose hundreds of small
                   operations would hide the rest: images per second and peak memory, for all that is left of the time. The
                   images are CIFAR-10 in the folder --data (torchvision's files, or train/ and test/ with class folders), or
                   noise of its size

Every result is written to the folder --state at once; a second call leaves out what is there, repeats what failed, and goes on
with the training run. Started measurements are finished, so a call may take a minute longer than it was given.
Without --state, nothing is kept. `python -m pytest tests/cuda` runs the tests that need a GPU.

--device cpu rehearses all of it on the CPU, at a tiny size: its numbers mean nothing.

A bare machine needs torch with CUDA (Triton comes with it), torchvision, this repository as the current folder, and

    numpy pillow pydantic pydantic-settings safetensors psutil ruamel.yaml rich loguru tqdm spikingjelly

and for the tests pytest hypothesis, and onnx onnxscript onnxruntime, without which the test of exported networks is skipped.
Without a network, fetch them where there is one, and install them from the folder. `--no-deps` for SpikingJelly, which would
fetch torch again and much that is not used here:

    pip download --dest wheels numpy pillow pydantic pydantic-settings safetensors psutil ruamel.yaml rich
    pip download --dest wheels pytest hypothesis loguru tqdm
    pip download --dest wheels --no-deps "spikingjelly>=2.0"
    pip install --no-index --find-links wheels numpy pillow ... tqdm
    pip install --no-index --find-links wheels --no-deps spikingjelly

pip fetches for the Python and platform that it runs on; for others, such as Python 3.12 on Linux, add to each `pip download`

    --python-version 3.12 --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --only-binary=:all:
"""

import argparse
import gc
import importlib.metadata
import json
import platform
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_steps
from benchmarks.gpu_runs import candidates_per_hour, prepared_images, train
from gee_core.config import Params
from gee_core.errors import InputError, in_short
from gee_core.memory import keep_freed_memory
from gee_core.storage.atomic_files import write_json
from gee_core.storage.json_object import read_json_object
from pipelines.project.params import check_params, overridden
from pipelines.project.presets import load_preset

ENDS = {"training_step": 0.3, "candidates": 0.6, "training": 1.0}
"""The part of the minutes after which no more of each part is started."""


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    cases: dict[str, dict]
    """Of `training_step`."""
    rounds: int
    repeats: int
    """Steps between two synchronisations."""
    counts: tuple[int, ...]
    """Of processes side by side."""
    n_images: int
    """Of noise."""
    changes: dict[str, Any]
    """To the preset cifar10-paper."""


CIFARNET = {"network.name": "cifarnet", "network.block": None}
FULL = Sizes(
    cases={name: {"name": name, "width": 1.0, "n_genes": 100, "batch": 128} for name in ("resnet19", "cifarnet")},
    rounds=5,
    repeats=3,
    counts=(1, 2, 4, 8),
    n_images=50_000,
    changes=CIFARNET | {"evolve.proxy.images": 4096, "train.randaugment": 0},
)
TINY_TRAINING = {"train.epochs": 3, "train.batch_size": 8, "train.warmup_epochs": 1, "train.randaugment": 0}
TINY_CANDIDATES = {"evolve.proxy.images": 16, "evolve.proxy.batch_size": 8, "evolve.proxy.epochs": 1}
TINY = Sizes(
    cases={"cifarnet": {"name": "cifarnet", "width": 1 / 32, "n_genes": 4, "batch": 2}},
    rounds=1,
    repeats=1,
    counts=(1, 2),
    n_images=100,
    changes=CIFARNET | {"network.width": 1 / 32, "network.n_genes": 4} | TINY_TRAINING | TINY_CANDIDATES,
)


class Results:
    """What was measured, by part, in the file results.json of a folder."""

    def __init__(self, folder: Path, about: dict):
        """Read the file, if it is there.

        Raises:
            InputError: the folder holds results of another device, other versions or other images, or is damaged.
        """
        self._path = folder / "results.json"
        self.found: dict[str, Any] = {"about": about} | {part: {} for part in ENDS}
        if self._path.is_file():
            try:
                self.found = read_json_object(self._path)
            except ValueError as error:
                raise InputError(f"{self._path}: damaged ({error})", "choose another --state") from None
            if other := [key for key, value in about.items() if self.found["about"].get(key) != value]:
                raise InputError(f"{folder}: holds results of another {', '.join(other)}", "choose another --state")

    def has(self, part: str, name: str) -> bool:
        """Whether there is a result that did not fail."""
        return name in self.found[part] and "failed" not in self.found[part][name]

    def put(self, part: str, result: dict) -> None:
        """Add to the results of a part, and write all."""
        self.found[part] |= result
        write_json(self._path, self.found)


def about(device: str, data: str | None) -> dict[str, str | None]:
    """The device, driver and versions."""
    cuda = device == "cuda"
    versions: dict[str, str | None] = {}
    for name in ("triton", "spikingjelly"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "device": torch.cuda.get_device_name() if cuda else f"{platform.machine()} CPU",
        "driver": _driver() if cuda else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": str(torch.backends.cudnn.version()) if cuda else None,
        **versions,
        "images": data or "noise",
    }


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()[0]
    except (OSError, IndexError, subprocess.SubprocessError):
        return None


def parameters(device: str, sizes: Sizes) -> Params:
    """The sections of params.yaml for candidates and training."""
    values = load_preset("cifar10-paper").values
    return check_params(overridden(values, sizes.changes | {"base.device": device}, "benchmarks.gpu"), "benchmarks.gpu")


def run(device: str, sizes: Sizes, minutes: float, state: Path, data: str | None = None) -> dict:
    """All parts, in order, as far as the time goes; returns what is in ``state`` afterwards.

    Raises:
        InputError: ``state`` holds results of another device, other versions or other images; ``data`` cannot be read.
    """
    results = Results(state, about(device, data))
    start = time.monotonic()
    deadlines = {part: start + 60 * minutes * end for part, end in ENDS.items()}
    for name, case in sizes.cases.items():
        if not results.has("training_step", name) and time.monotonic() < deadlines["training_step"]:
            measured = attempt(partial(gpu_steps.measure, case, device, sizes.rounds, sizes.repeats))
            results.put("training_step", {name: measured})
            free(device)
    params = parameters(device, sizes)
    prepared = prepared_images(state / "prepared", params, data, sizes.n_images)
    for count in sizes.counts:
        now, end = time.monotonic(), deadlines["candidates"]
        if not results.has("candidates", str(count)) and now < end:
            until = now + (end - now) / sum(other >= count for other in sizes.counts)
            measured = attempt(partial(candidates_per_hour, params, state / "prepared", count, until))
            results.put("candidates", {str(count): measured})
    results.found["training"].pop("failed", None)
    results.put("training", attempt(lambda: train(params, prepared, state / "training", deadlines["training"])))
    free(device)
    return results.found


def free(device: str) -> None:
    """Leave a GPU's memory to other processes, but for what is in use."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def attempt(measure: Callable[[], dict]) -> dict:
    """The result of ``measure``, or why it failed: the parts behind it run all the same. A traceback goes to stderr."""
    try:
        return measure()
    except Exception as error:
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {in_short(error)}"}


def table(found: dict) -> str:
    """The results as text."""
    rows: list[tuple[str, object]] = [*found["about"].items()]
    for name, case in found["training_step"].items():
        if "images_per_second" not in case:
            rows.append((f"{name}, failed", case["failed"]))
            continue
        rows += [(f"{name}, images/s: {who}", rate) for who, rate in case["images_per_second"].items()]
        rows += [(f"{name}, MiB of a step: {who}", mib) for who, mib in case["memory_mib"].items()]
        others = ("case", "images_per_second", "memory_mib", "left_out", "failed")
        rows += [(f"{name}: {ratio}", value) for ratio, value in case.items() if ratio not in others]
        rows += [(f"{name}, left out: {who}", reason) for who, reason in case["left_out"].items()]
    for count, result in found["candidates"].items():
        rows.append((f"candidates per hour, {count} side by side", result.get("per_hour", result.get("failed"))))
    rows += [(f"training: {key}", value) for key, value in found["training"].items()]
    return "\n".join(f"{key:44} {value}" for key, value in rows)


def check(arguments: argparse.Namespace) -> None:
    """Refuse what would fail later.

    Raises:
        InputError: this machine, or an argument, is not fit for the command.
    """
    if arguments.minutes <= 0:
        raise InputError(f"--minutes {arguments.minutes:g}", "give it more than 0")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise InputError("torch sees no CUDA device", "`--device cpu` rehearses the command on the CPU, at a tiny size")
    if arguments.data is not None and not Path(arguments.data).is_dir():
        raise InputError(f"{arguments.data}: no such folder", "name the folder with CIFAR-10 as --data, or leave it out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="wall time")
    parser.add_argument("--state", type=Path, help="folder for the results, so that a second call continues")
    parser.add_argument("--data", help="folder with CIFAR-10; without it, noise")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line, in place of the table")
    arguments = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        state = arguments.state or Path(folder)
        try:
            check(arguments)
            state.mkdir(parents=True, exist_ok=True)
            sizes = FULL if arguments.device == "cuda" else TINY
            if sizes is TINY:
                torch.set_num_threads(1)
            found = run(arguments.device, sizes, arguments.minutes, state, arguments.data)
        except InputError as error:
            raise SystemExit(f"benchmarks.gpu: {error}") from None
        except OSError as error:
            raise SystemExit(f"benchmarks.gpu: {state}: cannot be used ({in_short(error)})") from None
    print(json.dumps(found) if arguments.json else table(found))


if __name__ == "__main__":
    main()

"""The curves of ``time_to_accuracy``: the test accuracy after every epoch of a training run, in files that are resumed.

A curve is STATE/curves/NAME-SEED.json, a short run that tries a learning rate is STATE/lr/NAME/LR.json; the states of the one
that is being trained lie in the folder beside it.
"""

import argparse
import functools
import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.accuracy_contenders import (
    CONTENDERS,
    INTEGERS,
    SHARED,
    Contender,
    contender,
    curve_name,
    own_layers,
    with_epochs,
)
from gee_core.data.meta import Meta
from gee_core.data.prepared import Prepared
from gee_core.errors import InputError
from gee_core.model.wired import largest_activation
from gee_core.snn.kernels import long_run
from gee_core.storage.atomic_files import write_json
from gee_core.storage.json_object import read_json_object
from gee_core.training.loop import Images, accuracy_and_loss, for_inference, train_epoch
from gee_core.training.recipe import images_per_epoch, steps_per_epoch
from gee_core.training.resume import Resumable

LR_GRID = {"unencoded": (0.25, 0.5, 1.0, 2.0), SHARED: (1e-3, 2e-3, 4e-3, 8e-3), INTEGERS: (1e-3, 2e-3, 4e-3, 8e-3)}
"""Learning rates to try first: times that of the preset for `unencoded`, absolute ones for SpikingJelly's recipe."""
MAX_FURTHER = 3
"""Most rates beyond the grid that are tried while the best is the lowest or the highest."""
TEST_BATCH = 256


def curve_path(state: Path, name: str, seed: int) -> Path:
    """The file of a curve."""
    return state / "curves" / f"{name}-{seed}.json"


def train_curve(
    path: Path,
    side: Contender,
    meta: Meta,
    images: Images,
    scored_on: Images,
    on_epoch: Callable[[dict], None] = lambda row: None,
) -> dict:
    """Train a contender on ``images`` and write its accuracy on ``scored_on`` to ``path`` after every epoch.

    A stopped run goes on from its last state, within the epoch; a finished one is read. Returns the content of the file: the
    run's identity, its epochs, whether it diverged, and the rows {epoch, size, T, images, test_accuracy}, the
    last with `norm_images` if its statistics are taken anew.

    Raises:
        InputError: ``path`` is damaged, or of another recipe, network or set of images.
    """
    curve = _read_curve(path, _identity(side, meta, images))
    if is_finished(curve):
        return curve
    net, optimizer, recipe = side.build(meta, images)
    images, scored_on = images.to(recipe.compute.device), scored_on.to(recipe.compute.device)
    folder = path.with_suffix("")
    n_steps = steps_per_epoch(len(images), recipe.cfg.batch_size)
    write_json(path, curve)  # says whose states are in the folder
    states = Resumable(folder, "step", net, optimizer, n_steps)
    first, curve["rows"], mid_epoch = states.restore()
    for epoch in range(first, recipe.cfg.epochs):
        try:
            with long_run(largest_activation(side.params.network, meta, len(images) * recipe.cfg.epochs)):
                on_step = states.periodic_saver(epoch, curve["rows"])
                train_epoch(net, optimizer, images, recipe, epoch, mid_epoch, on_step)
        except FloatingPointError:
            curve["diverged"] = True
            break
        mid_epoch = None
        accuracy, _ = accuracy_and_loss(for_inference(net), scored_on, TEST_BATCH, recipe.normalise, recipe.compute)
        row = {
            "epoch": epoch + 1,
            "size": recipe.size_of(epoch) or meta.image_size,
            "T": recipe.T_of(epoch) or side.params.network.T,
            "images": images_per_epoch(len(images), recipe.cfg.batch_size),
            "test_accuracy": accuracy,
        }
        if recipe.cfg.norm_images and epoch + 1 == recipe.cfg.epochs:
            row["norm_images"] = recipe.cfg.norm_images
        curve["rows"].append(row)
        states.keep(len(curve["rows"]), curve["rows"])
        write_json(path, curve)
        on_epoch(row)
    write_json(path, curve)
    shutil.rmtree(folder, ignore_errors=True)
    return curve


def is_finished(curve: dict) -> bool:
    """Whether nothing of a curve is left to be trained."""
    return curve["diverged"] or len(curve["rows"]) == curve["epochs"]


def read_curve(path: Path) -> dict | None:
    """The content of a curve's file; None where there is none.

    Raises:
        InputError: the file is damaged.
    """
    try:
        curve = read_json_object(path)
        if set(curve) != {"identity", "epochs", "diverged", "rows"}:
            raise ValueError(f"it holds {', '.join(sorted(curve))}")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error})", "delete it: it is written again") from None
    return curve


def _read_curve(path: Path, identity: dict) -> dict:
    curve = read_curve(path) or {"identity": identity, "epochs": identity["train"]["epochs"], "diverged": False, "rows": []}
    found, wanted = _flat(curve["identity"]), _flat(identity)
    if differing := sorted(key for key in found | wanted if found.get(key) != wanted.get(key)):
        problem = f"{path}: the curve of a run with another {', '.join(differing)}"
        raise InputError(problem, "choose another --state, or delete the file")
    return curve


def _flat(sections: dict) -> dict:
    """``sections`` with keys such as `train.lr`."""
    parts = {name: part if isinstance(part, dict) else {"": part} for name, part in sections.items()}
    return {f"{name}.{key}".rstrip("."): value for name, part in parts.items() for key, value in part.items()}


def _identity(side: Contender, meta: Meta, images: Images) -> dict:
    sections = {name: getattr(side.params, name).model_dump(mode="json") for name in ("base", "network", "train")}
    return sections | {"layers": side.layers, "images": [len(images), meta.sha256.get("train_images.npy")]}


def shortened(sections: dict) -> dict:
    """``sections`` with a quarter of the epochs, but one for every part of the schedules of size and T."""
    train = sections["train"]
    epochs = max(math.ceil(train["epochs"] / 4), len(train["sizes"] or ()), len(train["T_schedule"] or ()))
    return sections | {"train": with_epochs(train, epochs)}


def choose_lr(
    state: Path,
    name: str,
    sections: dict,
    data: Prepared,
    grid: Iterable[float] | None = None,
    on_row: Callable[[dict], None] = lambda row: None,
) -> float:
    """The rate whose short run, without the hold-out, is the most accurate on the hold-out; from ``LR_GRID`` by default.

    While the best is at an end of the rates that were tried, its double or half is tried too, ``MAX_FURTHER`` times at most.
    """
    short = shortened(sections)
    factor = sections["train"]["lr"] if name == "unencoded" else 1.0
    waiting = [factor * lr for lr in LR_GRID[name]] if grid is None else list(grid)
    images, holdout = data.proxy_train(), data.holdout_images()
    scores: dict[float, float] = {}
    further = 0
    while waiting:
        for lr in waiting:
            side = contender(short, name, lr=lr)
            scores[lr] = _score(train_curve(state / "lr" / name / f"{lr:g}.json", side, data.meta, images, holdout))
            on_row({"lr": lr, "epochs": short["train"]["epochs"], "holdout_accuracy": scores[lr]})
        best = max(scores, key=lambda lr: scores[lr])
        ends = {max(scores): 2 * best, min(scores): best / 2}
        waiting = [ends[best]] if best in ends and len(scores) > 1 and further < MAX_FURTHER else []
        further += 1
    return best


def _score(curve: dict) -> float:
    """The last accuracy; 0 of a run that diverged."""
    return 0.0 if curve["diverged"] else curve["rows"][-1]["test_accuracy"]


def tried_rates(state: Path) -> list[dict]:
    """{curve, lr, epochs, holdout_accuracy} of every short run that has finished."""
    found = [(path.parent.name, read_curve(path)) for path in (state / "lr").glob("*/*.json")]
    rows = [(name, curve) for name, curve in found if curve is not None and is_finished(curve)]
    return [
        {
            "curve": name,
            "lr": curve["identity"]["train"]["lr"],
            "epochs": curve["epochs"],
            "holdout_accuracy": round(_score(curve), 4),
        }
        for name, curve in sorted(rows, key=lambda row: (row[0], row[1]["identity"]["train"]["lr"]))
    ]


def make_curves(arguments: argparse.Namespace, sections: dict[str, dict], data: Prepared) -> None:
    """Choose the learning rates, train what is left of the curves, and print every epoch."""
    rates = dict(_rate(text) for text in arguments.lr)
    names = list(dict.fromkeys(curve_name(name, arguments.layers) for name in arguments.contender or CONTENDERS))
    paths = {(name, seed): curve_path(arguments.state, name, seed) for name in names for seed in range(arguments.seeds)}
    for (name, seed), path in paths.items():
        curve = read_curve(path)
        left = "all epochs are" if curve is None else f"{curve['epochs'] - len(curve['rows'])} of {curve['epochs']} epochs are"
        print(f"{name}, seed {seed}: {'nothing is' if curve and is_finished(curve) else left} left to train", flush=True)
    for name in names:
        family = curve_name(name)
        if family in LR_GRID and family not in rates:
            about = functools.partial(_print_row, {"contender": family})
            rates[family] = choose_lr(arguments.state, family, sections[family], data, on_row=about)
        for seed in range(arguments.seeds):
            layers = "fused" if arguments.layers == "fused" else own_layers(name)
            side = contender(sections[name], name, seed, rates.get(family), layers)
            on_epoch = functools.partial(_print_row, {"contender": name, "seed": seed})
            train_curve(paths[name, seed], side, data.meta, data.train, data.test, on_epoch)


def _print_row(about: dict, row: dict) -> None:
    shown = {key: f"{value:g}" if isinstance(value, float) else value for key, value in (about | row).items()}
    print("  ".join(f"{key} {value}" for key, value in shown.items()), flush=True)


def _rate(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        if name not in ("genetic", *LR_GRID) or float(value) <= 0:
            raise ValueError
    except ValueError:
        remedy = f"write NAME=VALUE, with NAME one of genetic, {', '.join(LR_GRID)}, for instance {SHARED}=2e-3"
        raise InputError(f"--lr {text}", remedy) from None
    return name, float(value)

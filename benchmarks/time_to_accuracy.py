"""One training run of docs/results/time-to-accuracy.md: the test accuracy and the seconds of training after every epoch.

    python -m benchmarks.time_to_accuracy --data FOLDER --state FOLDER [--contender genetic] [--seed 0] [--preset cifar10-small]
        [--set train.epochs=3] [--json]

CIFARNet x 0.25 is trained on all training images of CIFAR-10 and tested on all test images. The contenders:
    genetic, plain   this library with the recipe of the preset, the wiring analytic
    spikingjelly     SpikingJelly's LIF neurons in float32 with the usual recipe: AdamW, cosine with warm-up, 32 pixels, T = 4

The seconds are those of training alone. The first epoch of each image size and each T includes the time of compiling.
"""

import argparse
import json
import time
from pathlib import Path

from benchmarks.training_step import use_spikingjelly
from gee_core.compute import Compute
from gee_core.config import Params
from gee_core.data.prepared import Prepared, load_prepared
from gee_core.errors import InputError
from gee_core.model.wired import largest_activation, wired_network
from gee_core.seeding import derive_seed
from gee_core.settings import keep_freed_memory
from gee_core.snn.kernels import long_run
from gee_core.training.loop import accuracy_and_loss, for_inference, train_epoch
from gee_core.training.recipe import full_recipe
from pipelines import prepare
from pipelines.project.params import check_params, override_values
from pipelines.project.presets import load_preset
from pipelines.project.safe_yaml import parse_changes
from pipelines.studies.definition import Overrides

CHANGES: Overrides = {"network.name": "cifarnet", "network.block": None, "network.width": 0.25, "train.init_from": None}
CHANGES |= {"evolve.variant": "analytic", "prepare.max_train_images": None, "prepare.max_test_images": None}
PLAIN: Overrides = {"network.n_genes": None, "train.quantise": None}
LIF = {"network.neuron": "lif", "network.levels": None, "network.T": 4, "network.tau": 2.0, "network.v_threshold": 0.5}
ADAMW = {"optimizer": "adamw", "lr": 8e-3, "lr_min": 0.0, "cooldown": None, "weight_decay": 0.01, "batch_size": 64}
ADAMW |= {"warmup_epochs": 1, "crop_padding": 4, "flip": True, "loss": "ce", "label_smoothing": 0.1}
ADAMW |= {"sizes": None, "T_schedule": None, "norm_images": None, "randaugment": 0}
SPIKINGJELLY = PLAIN | LIF | {"network.init": None, "base.precision": "fp32"}
SPIKINGJELLY |= {f"train.{name}": value for name, value in ADAMW.items()}
CONTENDERS: dict[str, Overrides] = {"genetic": {}, "plain": PLAIN, "spikingjelly": SPIKINGJELLY}
"""What each changes, besides `CHANGES`, in the sections of params.yaml."""


def contender_params(contender: str, preset: str, data: str, seed: int, changes: list[str]) -> Params:
    """The sections of params.yaml for a contender. Raises ``InputError``."""
    own = CHANGES | {"base.seed": seed} | CONTENDERS[contender]
    values = override_values(load_preset(preset, data).values, own, contender)
    return check_params(override_values(values, parse_changes(changes), "--set"), contender)


def train(params: Params, data: Prepared, by_spikingjelly: bool) -> list[dict[str, float]]:
    """Train once. Returns a row per epoch: ``epoch, seconds, test_accuracy``, the seconds being those from the start."""
    compute = Compute.of(params.base.device, params.base.precision)
    net = wired_network(params.network, data.meta, None, derive_seed(params.base.seed, "fresh") % 2**31).to(compute.device)
    if by_spikingjelly:
        use_spikingjelly(net, contiguous=True)
    images, scored_on = data.train.to(compute.device), data.test.to(compute.device)
    seed = derive_seed(params.base.seed, "train")
    recipe = full_recipe(params.train, data.meta.normalise, compute, len(images), seed, params.network.v_threshold)
    optimizer = recipe.begin(net, images)
    seconds, rows = 0.0, []
    for epoch in range(recipe.cfg.epochs):
        start = time.perf_counter()
        with long_run(largest_activation(params.network, data.meta, len(images) * recipe.cfg.epochs)):
            train_epoch(net, optimizer, images, recipe, epoch)
        seconds += time.perf_counter() - start
        accuracy, _ = accuracy_and_loss(for_inference(net), scored_on, 256, recipe.normalise, compute)
        rows.append({"epoch": epoch + 1, "seconds": round(seconds, 1), "test_accuracy": round(accuracy, 4)})
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with CIFAR-10, as `prepare.path`")
    parser.add_argument("--state", type=Path, required=True, help="folder in which the images are prepared once")
    parser.add_argument("--contender", choices=CONTENDERS, default="genetic")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="cifar10-small", help="whose sections `network` and `train` are the recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value of the recipe")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    keep_freed_memory()
    try:
        params = contender_params(arguments.contender, arguments.preset, arguments.data, arguments.seed, arguments.set)
        if not arguments.state.is_dir():
            prepare.run(params.prepare, arguments.state)
        data = load_prepared(arguments.state)
    except InputError as error:
        raise SystemExit(f"time_to_accuracy: {error}") from None
    rows = train(params, data, arguments.contender == "spikingjelly")
    if arguments.json:
        print(json.dumps({"contender": arguments.contender, "seed": arguments.seed, "rows": rows}))


if __name__ == "__main__":
    main()

"""Makes the trained networks in gee_core/pretrained/ again, or ships others.

    python -m benchmarks.pretrained rebuild cifarnet.digits             # in a clone of its own; compares with the shipped one
    python -m benchmarks.pretrained rebuild cifarnet.cifar10 --data D   # D: where the images are
    python -m benchmarks.pretrained ship cifarnet.digits --run F --hours 0.02   # F: a project whose run ended

`make pretrained NAME=cifarnet.digits DATA=…` is the first.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import TensorProto, external_data_helper

from gee_core.checkpoint import load
from gee_core.compute import Compute
from gee_core.data.prepared import load_prepared
from gee_core.export.model_card import CARD_ENTRY
from gee_core.gene_file import save_genes
from gee_core.model.base import SpikingNetwork
from gee_core.pretrained.files import FOLDER, PretrainedCard, pretrained_card
from gee_core.storage.atomic_files import sha256
from gee_core.storage.json_object import as_model
from gee_core.training.loop import accuracy_and_loss, for_inference
from pipelines.project.git import git_commit
from pipelines.project.params import read_sections

PAPER = "https://arxiv.org/abs/2411.06792"
CIFAR10 = ("CIFAR-10 (Krizhevsky 2009), all 50,000 training images", "no licence stated; free for research")
UNSEARCHED = ("evolve.variant=analytic", "evolve.proxy.images=500")


class Training(NamedTuple):
    """How a network is trained."""

    preset: str
    data: str
    data_licence: str
    changes: tuple[str, ...] = ()
    """Of the preset."""

    def commands(self, data: str | None) -> list[list[str]]:
        """Those that train it, ``data`` being the folder of the images."""
        where = ["--data", data] if data else []
        setting = [word for change in self.changes for word in ("-S", change)]
        return [["gee", "preset", "use", self.preset, *where], ["dvc", "exp", "run", *setting]]


TRAININGS = {
    "cifarnet.cifar10": Training("cifar10-cpu", *CIFAR10, UNSEARCHED),
    "cifarnet-small.cifar10": Training("cifar10-small", *CIFAR10, (*UNSEARCHED, "network.n_genes=13")),
    "cifarnet.fashion_mnist": Training(
        "fashion-mnist", "Fashion-MNIST (Xiao et al. 2017), all 60,000 training images", "MIT", UNSEARCHED
    ),
    "cifarnet.digits": Training("digits", "UCI optical digits as in scikit-learn, 1,438 images", "CC BY 4.0"),
    "cifarnet.nmnist": Training("nmnist", "N-MNIST (Orchard et al. 2015), 1,000 recordings", "CC BY-SA 4.0"),
    "cifarnet.photographs": Training("photographs", "3,140 photographs of Imagenette", "ImageNet: research only", UNSEARCHED),
}

IMAGENETTE = (
    "tench, English springer, cassette player, chain saw, church, French horn, garbage truck, gas pump, golf ball, parachute"
)
"""Its classes in words; the folders have WordNet's numbers."""


def ship(name: str, run: Path, hours: float, machine: str, folder: Path = FOLDER) -> PretrainedCard:
    """Write the network that the project ``run`` trained and exported to ``folder``, in place of the one of its name."""
    training = TRAININGS[name]
    exported, measured = run / "models/export", json.loads((run / "reports/evaluate/metrics.json").read_text())
    net, accuracy, n = accuracy_of(run)
    about = {
        "name": name,
        "accuracy": accuracy,
        "standard_error": round((accuracy * (1 - accuracy) / n) ** 0.5, 4),
        "test_images": n,
        "parameters": measured["parameters"],
        "energy_uj": round(1e3 * measured["energy_mj"], 3),
        "data": training.data,
        "data_licence": training.data_licence,
        "licence": "MIT",
        "paper": PAPER,
        "command": " && ".join(map(shlex.join, training.commands(None if name == "cifarnet.digits" else "FOLDER"))),
        "seed": read_sections(run / "params.yaml", "name a project", "repair it")["base"]["seed"],
        "commit": git_commit(run) or "unknown",
        "machine": machine,
        "hours": hours,
    }
    if training.preset == "photographs":
        about["class_names"] = IMAGENETTE.split(", ")
    card = as_model(json.loads((exported / "meta.json").read_text()) | about, PretrainedCard)
    for old in folder.glob(f"{name}-*"):
        old.unlink()
    written = folder / f"{name}.safetensors"
    save_genes(written, net, "int8", card.model_dump(mode="json"))
    file = written.rename(folder / f"{name}-{sha256(written)[:8]}.safetensors")
    graph = without_matrices(onnx.load(exported / "genes.onnx"), file)
    (entry,) = (entry for entry in graph.metadata_props if entry.key == CARD_ENTRY)
    entry.value = card.model_dump_json()
    onnx.save(graph, file.with_suffix(".onnx"))
    return card


def accuracy_of(run: Path) -> tuple[SpikingNetwork, float, int]:
    """The network of the int8 genes of ``run``, its accuracy on all test images in float32, and their number."""
    net, data = load(run / "models/export/genes.safetensors"), load_prepared(run / "data/prepared")
    accuracy, _ = accuracy_and_loss(for_inference(net), data.test, 256, data.meta.normalise, Compute.of("cpu", "fp32"))
    return net, accuracy, len(data.test)


def without_matrices(model: onnx.ModelProto, genes: Path) -> onnx.ModelProto:
    """``model``, of ``genes.onnx``, whose constants of int8 lie in the file ``genes`` that has the same."""
    content = genes.read_bytes()
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.INT8:
            start = content.index(tensor.raw_data)
            length = len(tensor.raw_data)
            external_data_helper.set_external_data(tensor, genes.name, start, length)
            tensor.ClearField("raw_data")
    return model


def rebuild(name: str, data: str | None, project: Path) -> None:
    """Train ``name`` in a clone at ``project`` and print how far it is from the shipped one."""
    if not project.is_dir():
        subprocess.run(["git", "clone", "--quiet", Path.cwd(), project], check=True)
    start, here = time.monotonic(), f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for program, *words in TRAININGS[name].commands(data):
        module = "pipelines.cli" if program == "gee" else program  # `gee` itself would be that of this clone
        subprocess.run([sys.executable, "-m", module, *words], cwd=project, check=True, env=os.environ | {"PATH": here})
    hours = (time.monotonic() - start) / 3600
    _, found, _ = accuracy_of(project)
    shipped = pretrained_card(name)
    away = 100 * (found - shipped.accuracy)
    error = 100 * shipped.standard_error
    then = f"{shipped.accuracy:.2%} in {shipped.hours:.2f} h on {shipped.machine}"
    print(f"{name}: {found:.2%} in {hours:.2f} h; the shipped one: {then}")
    print(f"{away:+.2f} points, the standard error of either being {error:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    again = commands.add_parser("rebuild", help="train one as it was, and compare")
    again.add_argument("--data", help="folder of its images")
    again.add_argument("--project", type=Path, help="the clone, which is resumed (default: a new temporary one)")
    new = commands.add_parser("ship", help="put the network of a finished run into the package")
    new.add_argument("--run", type=Path, required=True, help="folder of the project")
    new.add_argument("--hours", type=float, required=True, help="how long the run took")
    new.add_argument("--machine", required=True, help="on which machine, for the card")
    for each in (again, new):
        each.add_argument("name", choices=TRAININGS)
    args = parser.parse_args()
    if args.command == "ship":
        print(ship(args.name, args.run, args.hours, args.machine).model_dump_json(indent=1))
    else:
        rebuild(args.name, args.data, args.project or Path(tempfile.mkdtemp(prefix="gee-pretrained-")) / "clone")


if __name__ == "__main__":
    main()

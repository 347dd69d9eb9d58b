"""The command line, presets, studies, and the files that `gee` reads for people."""

import json
import pickle

import pytest

from gee_core.checkpoint import load
from gee_core.gene_file import save_genes
from tests.bad_inputs.case import Case, Change, cut, edit, flip, param, remove, row, write
from tests.bad_inputs.conftest import CARD, write_model
from tests.bad_inputs.test_image_cases import bomb

NETWORKS = "choose one of cifarnet"
COUNT = "gee count --network vgg16"
USAGE = [
    row("gee evlove", "No such command 'evlove'", "--help"),
    row("gee count", "Missing option '--network'", "--help"),
    row("gee count --network resnet50", "unknown network 'resnet50'", NETWORKS),
    row(
        "gee count --network networks/my_vgg.py",
        "unknown network 'networks/my_vgg.py'",
        "write networks.MODULE:NAME for the class NAME in networks/MODULE.py",
    ),
    row(f"{COUNT} --genes 0", "Invalid value for '--genes'", "--help"),
    row(f"{COUNT} --width -1", "width must be > 0 and finite, got -1", "must be > 0"),
    row(f"{COUNT} --block pre", "block must be None for vgg16, got 'pre'", "gee: error"),
    row("gee preset use nothing", "unknown preset 'nothing'", "choose one of digits"),
    row("gee preset use other --data \x00", "prepare.path", "name another path"),
    row("gee preset use digits --data x", "reads scikit-learn's digits", "leave --data out"),
    row("gee summary", "reports/summary.json: not found", "run `gee run`"),
    row("gee summary", "reports/summary.json: damaged", "delete it and run `gee run`", write("reports/summary.json", "{")),
    row("gee run", "prepare.path = nowhere", "put the images", param("prepare.path", "nowhere")),
    row("gee flow serve --cron soon", '--cron "soon": not a cron schedule', '"0 2 * * *"'),
    row("gee flow serve --cron @daily --timezone Mars", "--timezone Mars: no such", "Europe/Berlin"),
    row("gee flow run --set train.epoch=3", "train.epoch is not a known key", "mean epochs?"),
    row("gee flow run --preset nothing", "unknown preset 'nothing'", "choose one of digits"),
]

ONNX, GENES, NIR = (f"models/export/{name}" for name in ("network.onnx", "genes.safetensors", "network.nir"))
IMAGE = "images/test/cat/0.png"
ANEW, AGAIN = "`dvc repro -f export` recomputes it", "export the network again"


def card(**values) -> Change:
    return lambda folder: write_model(folder / ONNX, json.dumps(CARD | values))


def genes(about: dict | None = CARD | {"class_names": list("0123456789")}) -> Change:
    return lambda folder: save_genes(folder / GENES, load(folder / "models/train/network.safetensors"), "int4", about)


PREDICT = [
    row("gee predict nothing.png", "nothing.png: not found", "name image files, or folders"),
    row(f"gee predict {IMAGE}", f"{IMAGE}: not a readable image", "leave it out", cut(IMAGE)),
    row("gee predict models", "models: holds no images (.png, ", "name image files"),
    row("gee predict /dev/zero", "/dev/zero: neither a file", "name image files"),
    row("gee predict b.png", "has more pixels", "leave it", write("b.png", bomb(9000))),
    row(
        "gee predict images/train/z.JPG params.yaml",
        "images/train/z.JPG: not a readable image (none of PNG, JPEG, BMP, WEBP): replace it or leave it out",
        "params.yaml: not a readable image",
        write("images/train/z.JPG", "a text"),
        messages=2,
    ),
    row("gee predict nothing images/test none", "nothing: not found", "none: not found", messages=2),
    row(
        f"gee predict {IMAGE} --model images",
        "images/network.onnx: not found",
        "name an ONNX file of an export, a genes.safetensors",
    ),
    row(f"gee predict {IMAGE} --model models:/a@b", "models:/a@b: there is no sqlite", "`gee run` makes it"),
    row(
        f"gee predict {IMAGE} --model models:/gee-digits",
        "models:/gee-digits: names no version",
        "write models:/gee-digits@champion or models:/gee-digits/VERSION",
    ),
    row(f"gee predict {IMAGE} --model runs:/0123abc", "runs:/0123abc: names no model of the run", "write runs:/0123abc/NAME"),
    row("predict", f"{ONNX}: not found", "`dvc repro export` makes it", remove(ONNX)),
    row("predict", f"{ONNX}: damaged", ANEW, cut(ONNX)),
    row("predict", f"{ONNX}: lacks gee.card in its metadata", ANEW, lambda folder: write_model(folder / ONNX, None)),
    row("predict", f"{ONNX}: does not answer with finite probabilities of 1 classes", ANEW, card(class_names=["a"])),
    row("predict", f"{ONNX}: damaged", ANEW, card(image_size=9)),
    row("predict", f"{ONNX}: damaged (lacks", ANEW, lambda folder: write_model(folder / ONNX, "{}")),
    row("predict", f"{ONNX}: damaged (mean", ANEW, card(mean="0.1")),
    row(f"gee predict {IMAGE} --model {NIR}", f"{NIR}: neither an", "name models/ex", write(NIR, "")),
    row("genes", f"{GENES}: not found", "a genes.safetensors, a folder"),
    row("genes", f"{GENES}: damaged, or not a safetensors", AGAIN, genes(), cut(GENES)),
    row("genes", f"{GENES}: damaged, its checksum", AGAIN, genes(), flip(GENES, 0.9)),
    row("genes", f"{GENES}: damaged, or not a safetensors", AGAIN, write(GENES, pickle.dumps("a"))),
    row("genes", "its card is not as gee predict needs it (lacks", AGAIN, genes(None)),
    row("genes", "its card is not as gee", AGAIN, genes({"mean": []})),
    row(
        f"gee predict {IMAGE} --model models/train/network.safetensors",
        "network.safetensors: a checkpoint, not a file of genes",
        "name models/export, or the network.onnx or genes.safetensors in it",
    ),
]

ENCODE = "gee encode models/train/network.safetensors --genes 4 --out out.safetensors"
ENCODES = [
    row(ENCODE.replace("train", "none"), "network.safetensors: not found", "check its name"),
    row(ENCODE.replace("/network.safetensors", ""), "models/train: is a folder", "name the .safetensors"),
    row(ENCODE, "has 6 genes already", "name a network trained with network.n_genes = null"),
    row(
        ENCODE.replace("out.safetensors", "models/train/network.safetensors"),
        "models/train/network.safetensors: exists, and would be overwritten",
        "name another file",
    ),
]

PRESET, STUDY = "presets/other.yaml", "studies/tiny.yaml"
PRESETS = [
    row("gee preset use other", f"{PRESET}: not valid YAML", "fix it", write(PRESET, "train: [")),
    row("gee preset use other", f"{PRESET}: must hold", "fix it", write(PRESET, "- 1")),
    row("gee preset use other", "presets/digits.yaml: not found", "take", remove("presets/digits.yaml")),
    row("gee preset use other", "tain is not a known", "mean train?", write(PRESET, "tain: {a: 1}")),
]

RUN = "gee study run tiny"


def renamed_column(name: str) -> Change:
    return lambda folder: (folder / STUDY).write_text((folder / STUDY).read_text().replace("encoding", name))


def without(key: str) -> Change:
    return lambda folder: (folder / STUDY).write_text((folder / STUDY).read_text().partition(f"{key}:")[0])


STUDIES = [
    row("gee study run tinny", "unknown study 'tinny'", "choose one of tiny"),
    row(f"{RUN} --preset x", "unknown preset 'x'", "choose one of digits"),
    row(f"{RUN} --seeds 0", "Invalid value for '--seeds'", "--help"),
    row(f"{RUN} --set train.epochs", "--set train.epochs", "write section.key=value"),
    row(f"{RUN} --set tain.epochs=1", "tain.epochs = 1: no such key", "write section.key"),
    row(f"{RUN} --set train.epochs=0", "train.epochs = 0", "equal to 1"),
    row(f"{RUN} --only encoding=x", "--only encoding=x", "choose one of genetic"),
    row(RUN, "metrics is missing", "add it", without("metrics")),
    row(RUN, f"{STUDY}: must hold keys", "fix it", write(STUDY, "- 1")),
    row(RUN, "titel is not a known key", "mean title?", edit(STUDY, "^title:", "titel: x\ntitle:")),
    row(RUN, "unknown metric 'accuracy'", "mean", edit(STUDY, "- test_accuracy", "- accuracy")),
    row(RUN, "the column 'seed' is reserved", "give it another name", renamed_column("seed")),
]
DATA = [
    row("gee data check nowhere", "nowhere: no such folder", "set prepare.path"),
    row("gee data check dvc.yaml", "dvc.yaml: a file, not a folder", "set prepare.path"),
    row("gee data check images/test/cat", "holds no class folders", "one folder per"),
    row("gee data check images --name a/b", "name = 'a/b'", "should match pattern"),
]
SOURCE = """
from spikingjelly.activation_based import neuron
from torch import nn

number, plain = 3, nn.Linear(4, 2)
infinite = nn.Sequential(nn.Linear(4, 2), neuron.IFNode(), nn.Linear(2, 2))
nn.init.constant_(infinite[2].weight, float("inf"))

class Snn(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 2), neuron.IFNode())

def deep(depth): ...
def nothing(): ...
"""


def energy(run: str, says: str, remedy: str, *change: Change) -> Case:
    return row(f"gee energy {run}", says, remedy, write("energy_snn.py", SOURCE), *change)


SNN, CHECKPOINT = "energy_snn:Snn", "models/train/network.safetensors"
ENERGY = [
    energy("energy", "'energy': neither MODULE:NETWORK", "name a network as"),
    energy("enrgy_snn:Snn", "no module enrgy_snn in", "did you mean energy_snn?"),
    energy("zzz.qqq:Snn", "no module zzz in", "check its name"),
    energy("energy_snn:Snnn", "the module energy_snn has no Snnn", "did you mean Snn?"),
    energy("energy_snn:number", "raises TypeError: 3 is not a callable object", "name a function"),
    energy("energy_snn:plain", "the network has no neurons", "build it with those of spikingjelly"),
    energy("energy_snn:deep", "deep() raises TypeError: deep() missing", "no other arguments"),
    energy("energy_snn:nothing", "returns a NoneType", "return the network"),
    energy("half_snn:X", "half_snn raises SyntaxError", "fix it", write("half_snn.py", "x = 1\n(")),
    energy("sad_snn:X", "sad_snn.py, line 2 raises", "fix it", write("sad_snn.py", "\n1 / 0")),
    energy(
        "needy_snn:X",
        "needy_snn.py, line 1 raises ModuleNotFoundError: No module named 'no_such_one'",
        "fix it",
        write("needy_snn.py", "import no_such_one"),
    ),
    energy(SNN, "raises RuntimeError on a batch of shape (32, 3, 32, 32)", "steps = T"),
    energy("energy_snn:infinite --shape 4", "not finite", "check its weights"),
    energy(f"{SNN} --shape 3,x", "--shape '3,x': not sizes", "write for instance --shape 3,32"),
    energy(f"{SNN} --shape 99999,99999", "out of memory", "take smaller images"),
    energy(f"{SNN} --shape 4 --images images", "--images: a network for inputs of 4", "1,28,28"),
    energy(f"{SNN} --images nowhere", "nowhere: not found", "name image files"),
    energy(f"{SNN} --mean 0.5 --std 0.5", "normalise --images", "--images alone"),
    energy(f"{SNN} --shape 3,8,8 --images images --mean 0.5 --std 0.5", "1 numbers for images of 3 × 8 × 8", "give 3 each"),
    energy(f"{SNN} --images images --mean 0 --std 0", "not numbers above 0", "--std 0.5"),
    energy(f"{SNN} --prepared --shape 4", "--prepared: has images", "leave out --images"),
    energy(f"{SNN} --prepared", "data/prepared", "dvc repro", remove("data/prepared")),
    energy("none.safetensors", "none.safetensors: not found", "check its name"),
    energy(f"{CHECKPOINT} --steps 4", "--steps 4: models/train/network.safetensors makes its 2 steps itself", "leave it out"),
    energy(f"{CHECKPOINT} --shape 3,8,8", "takes images of 1 × 8 × 8 or another size", "leave out --shape"),
    energy(CHECKPOINT, "network.safetensors: damaged", "delete both, then `dvc repro`", cut(CHECKPOINT)),
]

CASES = ENERGY + USAGE + PREDICT + ENCODES + DATA + PRESETS + STUDIES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_commands_are_refused(case, refuses):
    refuses(case)

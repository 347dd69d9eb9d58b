"""The command line, presets, studies, and the files that `gee` reads for people."""

import json
import pickle

import pytest

from gee_core.checkpoint import load
from gee_core.gene_file import save_genes
from tests.bad_inputs.case import Case, Change, cut, edit, flip, param, remove, write
from tests.bad_inputs.test_image_cases import bomb


def command(name: str, run: str, *change: Change, says: str, remedy: str) -> Case:
    return Case(name=name, run=run, change=change, says=says, remedy=remedy)


NETWORKS = "choose one of cifarnet"
COUNT = "gee count --network vgg16"
USAGE = [
    command("an unknown command", "gee evlove", says="No such command 'evlove'", remedy="--help"),
    command("an unknown option", "gee run --fast", says="No such option: --fast", remedy="--help"),
    command("a missing option", "gee count", says="Missing option '--network'", remedy="--help"),
    command("an unknown network", "gee count --network resnet50", says="unknown network 'resnet50'", remedy=NETWORKS),
    command(
        "a file for a network",
        "gee count --network networks/my_vgg.py",
        says="unknown network 'networks/my_vgg.py'",
        remedy="write networks.MODULE:NAME for the class NAME in networks/MODULE.py",
    ),
    command("no genes", f"{COUNT} --genes 0", says="Invalid value for '--genes'", remedy="--help"),
    command("genes beyond memory", f"{COUNT} --genes 9999999999", says="Invalid value for '--genes'", remedy="--help"),
    command("classes beyond memory", f"{COUNT} --classes 999999999999", says="for '--classes'", remedy="--help"),
    command("a width below 0", f"{COUNT} --width -1", says="width must be > 0 and finite, got -1", remedy="must be > 0"),
    command("a width beyond numbers", f"{COUNT} --width 1e300", says="Invalid value for '--width'", remedy="--help"),
    command("no width", f"{COUNT} --width nan", says="Invalid value for '--width'", remedy="--help"),
    command("an unknown preset", "gee preset nothing", says="unknown preset 'nothing'", remedy="choose one of digits"),
    command(
        "an unknown preset to queue", "gee preset nothing --exp", says="unknown preset 'nothing'", remedy="choose one of digits"
    ),
    command("no data for a preset", "gee preset other --data \0", says="prepare.path", remedy="name another path"),
    command("data for the digits", "gee preset digits --data x", says="reads scikit-learn's digits", remedy="leave --data out"),
    command("data for no preset", "gee preset --data x", says="which preset", remedy="write gee preset NAME --data FOLDER"),
    command("no preset to queue", "gee preset --exp", says="--exp: which preset", remedy="write gee preset NAME --exp"),
    command("no run to summarise", "gee summary", says="reports/summary.json: not found", remedy="`dvc repro` makes it"),
    command(
        "half a summary",
        "gee summary",
        write("reports/summary.json", "{"),
        says="reports/summary.json: damaged",
        remedy="dvc repro -f report",
    ),
    command(
        "a summary of other things",
        "gee summary",
        write("reports/summary.json", '{"n_genes": "many"}'),
        says="reports/summary.json: damaged",
        remedy="dvc repro -f report",
    ),
    command(
        "no raw images", "gee run", param("prepare.path", "nowhere"), says="prepare.path = nowhere", remedy="put the images"
    ),
    command("no cron", "gee flow serve --cron soon", says='--cron "soon": not a cron schedule', remedy='"0 2 * * *"'),
    command("no zone", "gee flow serve --cron @daily --timezone Mars", says="--timezone Mars: no such", remedy="Europe/Berlin"),
    command("no override", "gee flow run --set train.epoch=3", says="train.epoch is not a known key", remedy="mean epochs?"),
    command("a bad override", "gee flow run --set train.epochs=0", says="overrides: train.epochs = 0", remedy="or equal to 1"),
    command("half an override", "gee flow run --set train.epochs", says="--set train.epochs", remedy="write section.key=value"),
    command("a flow's preset", "gee flow run --preset nothing", says="unknown preset 'nothing'", remedy="choose one of digits"),
]

ONNX, CARD = "models/export/network.onnx", "models/export/meta.json"
IMAGE = "images/test/cat/0.png"


def card(**values) -> Change:
    return lambda folder: (folder / CARD).write_text(json.dumps(json.loads((folder / CARD).read_text()) | values))


ANEW = "`dvc repro -f export` recomputes it"
PREDICT = [
    command("no image", "gee predict nothing.png", says="nothing.png: not found", remedy="name image files, or folders"),
    command("text for an image", "gee predict params.yaml", says="params.yaml: not a readable image", remedy="leave it out"),
    command("half an image", f"gee predict {IMAGE}", cut(IMAGE), says=f"{IMAGE}: not a readable image", remedy="leave it out"),
    command("a folder without images", "gee predict models", says="models: holds no images (.png, ", remedy="name image files"),
    command("a device for an image", "gee predict /dev/zero", says="/dev/zero: neither a file", remedy="name image files"),
    command("a bomb for an image", "gee predict b.png", write("b.png", bomb(9000)), says="has more pixels", remedy="leave it"),
    Case(
        name="several that are no images",
        run="gee predict images params.yaml",
        change=(cut(IMAGE), write("images/train/z.JPG", "a text")),
        says="images/train/z.JPG: not a readable image (none of PNG, JPEG, BMP, WEBP): replace it or leave it out",
        remedy="params.yaml: not a readable image",
        messages=3,
    ),
    Case(
        name="several that are not there",
        run="gee predict nothing images/test none",
        says="nothing: not found",
        remedy="none: not found",
        messages=2,
    ),
    command("none of the classes", f"gee predict {IMAGE} --top 0", says="Invalid value for '--top'", remedy="--help"),
    command(
        "another model that is not there",
        f"gee predict {IMAGE} --model images",
        says="images/network.onnx: not found",
        remedy="name an ONNX file of an export, a genes.safetensors",
    ),
    command(
        "no MLflow",
        f"gee predict {IMAGE} --model models:/a@b",
        says="models:/a@b: there is no sqlite",
        remedy="`gee run` makes it",
    ),
    command(
        "a model without a version",
        f"gee predict {IMAGE} --model models:/gee-digits",
        says="models:/gee-digits: names no version",
        remedy="write models:/gee-digits@champion or models:/gee-digits/VERSION",
    ),
    command(
        "a run without a model",
        f"gee predict {IMAGE} --model runs:/0123abc",
        says="runs:/0123abc: names no model of the run",
        remedy="write runs:/0123abc/NAME",
    ),
    command("no model", f"gee predict {IMAGE}", remove(ONNX), says=f"{ONNX}: not found", remedy="`dvc repro export` makes it"),
    command("half a model", f"gee predict {IMAGE}", cut(ONNX), says=f"{ONNX}: damaged", remedy=ANEW),
    command("a model of other classes", f"gee predict {IMAGE}", card(class_names=["a"]), says=f"{ONNX}: does not", remedy=ANEW),
    command("a model of other sizes", f"gee predict {IMAGE}", card(image_size=9), says=f"{ONNX}: damaged", remedy=ANEW),
    command("half a card", f"gee predict {IMAGE}", cut(CARD), says=f"{CARD}: damaged", remedy=ANEW),
    command("a word for a size", f"gee predict {IMAGE}", card(image_size="8"), says=f"{CARD}: damaged", remedy=ANEW),
    command("a mean too many", f"gee predict {IMAGE}", card(mean=[0.1, 0.2]), says=f"{CARD}: damaged", remedy=ANEW),
    command("a size beyond memory", f"gee predict {IMAGE}", card(image_size=10**9), says=f"{CARD}: damaged", remedy=ANEW),
]

GENES = "models/export/genes.safetensors"
DIGITS = {"class_names": list("0123456789"), "in_channels": 1, "image_size": 8, "mean": [0.3], "std": [0.4]}
BY_GENES = f"gee predict {IMAGE} --model {GENES}"


def genes(about=DIGITS) -> Change:
    return lambda folder: save_genes(folder / GENES, load(folder / "models/train/network.safetensors"), "int4", about)


AGAIN = "export the network again"
NIR = "models/export/network.nir"
PREDICT += [
    command(
        "a NIR graph", f"{BY_GENES[: -len(GENES)]}{NIR}", write(NIR, ""), says=f"{NIR}: neither an", remedy="name models/ex"
    ),
    command("no genes", BY_GENES, says=f"{GENES}: not found", remedy="a genes.safetensors, a folder"),
    command("half the genes", BY_GENES, genes(), cut(GENES), says=f"{GENES}: damaged (", remedy=AGAIN),
    command("a bit of a gene", BY_GENES, genes(), flip(GENES, 0.9), says=f"{GENES}: damaged, its checksum", remedy=AGAIN),
    command("a pickle of genes", BY_GENES, write(GENES, pickle.dumps("a")), says=f"{GENES}: not a safetensors", remedy=AGAIN),
    command("genes without a card", BY_GENES, genes(None), says=f"{GENES}: does not say which images", remedy=AGAIN),
    command("genes with half a card", BY_GENES, genes({"mean": []}), says="its card is not as gee", remedy=AGAIN),
    command("another card", BY_GENES, genes(DIGITS | {"image_size": 9}), says="is that of another network", remedy=AGAIN),
    command(
        "a checkpoint for genes",
        f"gee predict {IMAGE} --model models/train/network.safetensors",
        says="network.safetensors: a checkpoint, not a file of genes",
        remedy="name models/export, or the network.onnx or genes.safetensors in it",
    ),
]

ENCODE = "gee encode models/train/network.safetensors --genes 4 --out out.safetensors"
ENCODES = [
    command("no checkpoint", ENCODE.replace("train", "none"), says="network.safetensors: not found", remedy="check its name"),
    command(
        "a folder", ENCODE.replace("/network.safetensors", ""), says="models/train: is a folder", remedy="name the .safetensors"
    ),
    command("genes already", ENCODE, says="has 6 genes already", remedy="name a network trained with network.n_genes = null"),
    command(
        "a checkpoint over itself",
        ENCODE.replace("out.safetensors", "models/train/network.safetensors"),
        says="models/train/network.safetensors: is the checkpoint itself",
        remedy="name another file",
    ),
]

PRESET, STUDY = "presets/other.yaml", "studies/tiny.yaml"
PRESETS = [
    command("half a preset", "gee preset other", write(PRESET, "train: ["), says=f"{PRESET}: not valid YAML", remedy="fix it"),
    command("a preset that is a list", "gee preset other", write(PRESET, "- 1"), says=f"{PRESET}: must hold", remedy="fix it"),
    command(
        "no base of presets",
        "gee preset other",
        remove("presets/digits.yaml"),
        says="presets/digits.yaml: not found",
        remedy="take",
    ),
    command(
        "an unknown section",
        "gee preset other",
        write(PRESET, "tain: {a: 1}"),
        says="tain is not a known",
        remedy="mean train?",
    ),
    command(
        "a value out of range",
        "gee preset other",
        write(PRESET, "train: {epochs: 0}"),
        says="train.epochs = 0",
        remedy="equal to 1",
    ),
]

RUN = "gee study run tiny"


def renamed_column(name: str) -> Change:
    return lambda folder: (folder / STUDY).write_text((folder / STUDY).read_text().replace("encoding", name))


def without(key: str) -> Change:
    return lambda folder: (folder / STUDY).write_text((folder / STUDY).read_text().partition(f"{key}:")[0])


STUDIES = [
    command("an unknown study", "gee study run tinny", says="unknown study 'tinny'", remedy="choose one of tiny"),
    command("a study elsewhere", "gee study run ../params", says="unknown study '../params'", remedy="choose one of tiny"),
    command("a preset that is none", f"{RUN} --preset x", says="unknown preset 'x'", remedy="choose one of digits"),
    command("no seeds", f"{RUN} --seeds 0", says="Invalid value for '--seeds'", remedy="--help"),
    command("a million seeds", f"{RUN} --seeds 1000000", says="Invalid value for '--seeds'", remedy="--help"),
    command("no jobs", f"{RUN} --jobs 0", says="Invalid value for '--jobs'", remedy="--help"),
    command(
        "a change without a value", f"{RUN} --set train.epochs", says="--set train.epochs", remedy="write section.key=value"
    ),
    command("a change that is no YAML", f"{RUN} --set train.epochs=[", says="'[' is not a YAML value", remedy="--set"),
    command("a month 13", f"{RUN} --set train.epochs=2024-13-01", says="'2024-13-01' is not a YAML value", remedy="--set"),
    command(
        "a change of nothing", f"{RUN} --set tain.epochs=1", says="tain.epochs = 1: no such key", remedy="write section.key"
    ),
    command("a change out of range", f"{RUN} --set train.epochs=0", says="train.epochs = 0", remedy="equal to 1"),
    command("a label that is none", f"{RUN} --only encoding=x", says="--only encoding=x", remedy="choose one of genetic"),
    command("half a study", RUN, without("metrics"), says="metrics is missing", remedy="add it"),
    command("a study that is a list", RUN, write(STUDY, "- 1"), says=f"{STUDY}: must hold keys", remedy="fix it"),
    command("a study of brackets", RUN, write(STUDY, "[" * 1000), says=f"{STUDY}: not valid YAML (nested", remedy="fix it"),
    command("an empty study", RUN, write(STUDY, ""), says=f"{STUDY}: must hold keys", remedy="fix it"),
    command(
        "a misspelt key", RUN, edit(STUDY, "^title:", "titel: x\ntitle:"), says="titel is not a known key", remedy="mean title?"
    ),
    command(
        "a misspelt metric", RUN, edit(STUDY, "- test_accuracy", "- accuracy"), says="unknown metric 'accuracy'", remedy="mean"
    ),
    command(
        "a column of a table's own",
        RUN,
        renamed_column("seed"),
        says="the column 'seed' is reserved",
        remedy="give it another name",
    ),
    command(
        "half a result to show",
        "gee study show tiny",
        write("reports/studies/tiny/study.json", "{"),
        write("reports/studies/tiny/table.md", ""),
        says="reports/studies/tiny/study.json: cannot be read as JSON",
        remedy="run the study again",
    ),
]
DATA = [
    command("no folder to check", "gee data check", says="Missing argument", remedy="--help"),
    command("a folder that is not there", "gee data check nowhere", says="nowhere: no such folder", remedy="set prepare.path"),
    command("a file to check", "gee data check dvc.yaml", says="dvc.yaml: a file, not a folder", remedy="set prepare.path"),
    command(
        "a folder without classes", "gee data check images/test/cat", says="holds no class folders", remedy="one folder per"
    ),
    command(
        "a size that is none", "gee data check images --size 2", says="image_size = 2", remedy="greater than or equal to 4"
    ),
    command("a name that is none", "gee data check images --name a/b", says="name = 'a/b'", remedy="should match pattern"),
]
CASES = USAGE + PREDICT + ENCODES + DATA + PRESETS + STUDIES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_commands_are_refused(case, refuses):
    refuses(case)

"""Files that are missing, damaged or of something else, given to the function that reads them: one message each.

The tests of each room have what is particular to its files; here stands one row a kind, and what nothing may ever run.
"""

import hashlib
import io
import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gee_core.config.prepare import DATASETS
from gee_core.data.prepared import load_prepared
from gee_core.genome.genotype import Genotype
from tests.bad_inputs.case import Case, Change, cut, edit, flip, params, remove, row, write
from tests.bad_inputs.conftest import CARD, write_model


def picture(size: tuple[int, int] = (8, 8), form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, 100).save(file, form)
    return file.getvalue()


def folder(says: str, remedy: str, *change: Change, **prepare: object) -> Case:
    return row("images", says, remedy, *change, params(prepare={"dataset": "folder", "path": "images"} | prepare))


def moved(old: str, new: str) -> Change:
    return lambda project: (project / old).rename(project / new)


CAT = "images/train/cat/2.png"
FOLDERS = [
    folder("class only, 'cats'", "path to images/cats", moved("images/train", "images/cats"), remove("images/test")),
    folder(f"{CAT}: not a readable image", "replace or remove it", cut(CAT), stream=True, image_size=8),
    folder("GB packed, this machine has", "set prepare.stream", image_size=1024),
    folder("images/train: holds 2 class folders, cifar100 has 100", "set prepare.dataset to folder", dataset="cifar100"),
]


RAN = "the-pickle-ran"


class Evil:
    """Makes a folder where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (RAN,)


def array_of_objects() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Evil()], dtype=object), allow_pickle=True)
    return file.getvalue()


PICKLE, OBJECTS = pickle.dumps(Evil()), array_of_objects()
RAW, CIFAR = "raw/FashionMNIST/raw", "raw/cifar-10-batches-py"
PARTS = [f"{RAW}/{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
HUGE = struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 2**31, 2**31)
DOWNLOADS = [
    row("images", f"absent or damaged in {where}", remedy, params(prepare={"dataset": name, "path": "raw"}), *change)
    for name, where, remedy, *change in [
        ("cifar10", CIFAR, "delete what is there", *(write(f"{CIFAR}/{batch}", PICKLE) for batch in DATASETS["cifar10"].files)),
        ("fashion_mnist", RAW, "delete", *(write(part, b"") for part in PARTS[1:]), write(PARTS[0], HUGE)),
    ]
]

META, IMAGES, LABELS = (f"data/prepared/{name}" for name in ("meta.json", "train_images.npy", "train_labels.npy"))
PREPARED = [
    row("prepared", says, "`dvc repro prepare` makes it, `dvc pull` fetches it", change)
    for says, change in [
        (f"{IMAGES}: damaged, its checksum", flip(IMAGES)),
        (f"{META}: damaged (lacks n_train)", edit(META, '"n_train": \\d+,', "")),
    ]
]

LONG = (2**40).to_bytes(8, "little") + b"{}"
CHECKPOINT, ITS_JSON = "models/train/network.safetensors", "models/train/network.json"


def planted(content: bytes) -> Change:
    """Other bytes for the checkpoint, with their checksum in its JSON."""

    def change(project: Path) -> None:
        (project / CHECKPOINT).write_bytes(content)
        values = json.loads((project / ITS_JSON).read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
        (project / ITS_JSON).write_text(json.dumps(values))

    return change


CHECKPOINTS = [
    row("checkpoint", says, "dvc repro", *change)
    for says, *change in [
        (f"{CHECKPOINT}: a checkpoint of another network (T is 2, not 3)", params(network={"T": 3})),
        (f"{ITS_JSON}: not found", remove(ITS_JSON)),
        *((f"{CHECKPOINT}: damaged", planted(content)) for content in (LONG, PICKLE, OBJECTS)),
    ]
]

GENOTYPE = "models/evolve/genotype.json"
GENES = '"sigma_O": 0.3, '
GENOTYPES = [
    row("genotype", f"{GENOTYPE}: {says}", "dvc repro evolve", change)
    for says, change in [
        ("damaged", cut(GENOTYPE)),
        ("a genotype of another network", params(network={"name": "resnet19"})),
        ("damaged (sigma_O must be > 0 and finite", edit(GENOTYPE, GENES, '"sigma_O": -0.3, ')),
        ("damaged (its genes lack σ's", edit(GENOTYPE, GENES, "")),
        ("damaged (lr: Input should be greater than 0", edit(GENOTYPE, GENES, GENES + '"lr": -1, ')),
    ]
]

OLD, PLAIN = "inputs/old.json", "inputs/plain.safetensors"
START = {"network": "vgg16", "width": 1 / 16, "n_genes": 6, "genes": Genotype(0.3, (0.4,) * 8).as_dict(), "seed": 1}
AT_OLD, FROM_PLAIN = params(evolve={"start": OLD}), params(evolve={"variant": "analytic"}, train={"init_from": PLAIN})
FEW = START | {"genes": {"sigma_O": 0.3, "sigma_0": 0.4}}
SUM = {"sha256": hashlib.sha256(PICKLE).hexdigest()}
BROUGHT = [
    row("start", f"{OLD}: not a genotype to start at (nested", "or `analytic`", AT_OLD, write(OLD, "[" * 100000)),
    row("evolve", "has 1 σ's of encodings, not 8", "", AT_OLD, write(OLD, json.dumps(FEW))),
    row("train", f"train.init_from = {PLAIN}: {PLAIN}: no such file", "or name one that `gee pretrained` lists", FROM_PLAIN),
    row(
        "train",
        f"train.init_from = {PLAIN}: damaged",
        "or null",
        FROM_PLAIN,
        write(PLAIN, PICKLE),
        write("inputs/plain.json", json.dumps(SUM)),
    ),
]

MEASURED = "reports/evaluate/metrics.json"
EVALUATION = [
    row("evaluation", f"{MEASURED}: damaged", "dvc repro -f evaluate", cut(MEASURED)),
    row("evaluation", f"{MEASURED}: damaged (lacks test_accuracy)", "-f", edit(MEASURED, '"test_accuracy"', '"accuracy"')),
]

ONNX, OF_GENES = "models/export/network.onnx", "models/export/genes.safetensors"


def card(**values: object) -> Change:
    return lambda project: write_model(project / ONNX, json.dumps(CARD | values))


MODELS = [
    *(
        row("model", f"{ONNX}: {says}", remedy, change)
        for says, remedy, change in [
            ("not found", "`dvc repro -f export` makes it", remove(ONNX)),
            ("damaged", "`dvc pull` fetches it", cut(ONNX)),
            ("damaged (does not answer with finite probabilities of 1 cl", "`dvc repro -f export`", card(class_names=["a"])),
            ("damaged", "`dvc repro -f export`", card(image_size=9)),
            ("damaged (mean", "`dvc repro -f export`", card(mean="0.1")),
        ]
    ),
    row("genes", f"{OF_GENES}: not found", "`dvc repro -f export` makes it"),
    row("genes", f"{OF_GENES}: damaged, or not a safetensors", "dvc repro -f export", write(OF_GENES, PICKLE)),
]
CASES = FOLDERS + DOWNLOADS + PREPARED + CHECKPOINTS + GENOTYPES + BROUGHT + EVALUATION + MODELS


def offline(*_: object, **__: object) -> None:
    raise OSError("Name or service not known")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bad_file_is_refused(case: Case, refuses, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("gee_core.data.sources.os.sysconf", lambda name: 2**12)  # little memory
    assert "np." not in refuses(case)
    assert not Path(RAN).exists()


def test_the_pickles_of_these_tests_do_run_where_somebody_loads_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(PICKLE)
    assert Path(RAN).is_dir()


@pytest.mark.parametrize("content", [PICKLE, OBJECTS], ids=["a pickle", "an .npy of objects"])
def test_arrays_are_never_unpickled(content, project):
    (project / IMAGES).write_bytes(content)
    meta = json.loads((project / META).read_text())
    meta["sha256"][Path(IMAGES).name] = hashlib.sha256(content).hexdigest()
    (project / META).write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"magic string|Python objects|not an array"):
        load_prepared(project / "data/prepared")
    assert not Path(RAN).exists()

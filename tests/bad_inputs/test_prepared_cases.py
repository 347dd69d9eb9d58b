"""data/prepared: missing, damaged, changed between the stages, or somebody else's."""

import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.bad_inputs.case import Case, Change, cut, edit, flip, remove, write

META, IMAGES = "data/prepared/meta.json", "data/prepared/train_images.npy"
REMEDY = "`dvc repro prepare` makes it, `dvc pull` fetches it"


def array(values) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def planted(name: str, content: bytes) -> Change:
    """Another file, with its checksum in meta.json."""

    def change(folder: Path) -> None:
        write(f"data/prepared/{name}", content)(folder)
        meta = json.loads((folder / META).read_text())
        meta["sha256"][name] = hashlib.sha256(content).hexdigest()
        (folder / META).write_text(json.dumps(meta))

    return change


def meta(**values) -> Change:
    """Other values in meta.json."""

    def change(folder: Path) -> None:
        (folder / META).write_text(json.dumps(json.loads((folder / META).read_text()) | values))

    return change


def spoilt(name: str, *change: Change, says: str, run: str = "train") -> Case:
    return Case(name=name, run=run, change=change, says=says, remedy=REMEDY)


CASES = [
    *(
        spoilt("no images", remove("data/prepared"), says=f"{META}: not found", run=stage)
        for stage in ("evolve", "train", "evaluate", "robustness", "export")
    ),
    *(
        spoilt(
            "images that changed", flip(IMAGES), says=f"{IMAGES}: damaged, its checksum is not the one in meta.json", run=stage
        )
        for stage in ("evolve", "train")
    ),
    spoilt("test images that changed", flip("data/prepared/test_images.npy"), says="test_images.npy: damaged", run="evaluate"),
    spoilt("a hold-out that changed", flip("data/prepared/holdout.npy", 0.9), says="holdout.npy: damaged", run="evolve"),
    spoilt("one file missing", remove("data/prepared/train_labels.npy"), says="data/prepared/train_labels.npy: not found"),
    spoilt("half a file", cut(IMAGES), says=f"{IMAGES}: damaged"),
    spoilt("half a meta.json", cut(META), says=f"{META}: damaged"),
    spoilt("a meta.json of brackets", write(META, "[" * 100_000), says=f"{META}: damaged (nested too deeply)"),
    spoilt("a meta.json that is a list", write(META, "[]"), says=f"{META}: damaged (not a JSON object)"),
    spoilt("a key missing", edit(META, r'"n_train": \d+,', ""), says=f"{META}: damaged (lacks n_train)"),
    spoilt("a word for a number", meta(num_classes="ten"), says=f"{META}: damaged (num_classes: Input should be"),
    spoilt("a mean that is not finite", edit(META, r"0\.38", "NaN"), says=f"{META}: damaged (the number NaN"),
    spoilt("checksums of nothing", meta(sha256={}), says=f"{META}: damaged (its sha256 is not of these files)"),
    spoilt(
        "a checksum of a file elsewhere",
        meta(sha256={"../../params.yaml": "0"}),
        says=f"{META}: damaged (its sha256 is not of these files)",
    ),
    spoilt(
        "objects of Python", planted("train_labels.npy", array(np.array([{}], dtype=object))), says="train_labels.npy: not an"
    ),
    spoilt("another format in .npy", planted("train_labels.npy", b"PK\x03\x04" + bytes(50)), says="train_labels.npy: not an"),
    spoilt(
        "labels beyond the classes",
        planted("train_labels.npy", array(np.full(64, 10))),
        says="data/prepared: its arrays are not the images",
    ),
    spoilt(
        "labels that are fractions",
        planted("train_labels.npy", array(np.zeros(64))),
        says="data/prepared: its arrays are not the images",
    ),
    spoilt(
        "fewer labels than images", planted("train_labels.npy", array(np.zeros(63, dtype=int))), says="train_images.npy: not an"
    ),
    spoilt("images of fractions", planted("train_images.npy", array(np.zeros((64, 1, 8, 8)))), says=f"{IMAGES}: not an array"),
    spoilt(
        "a hold-out beyond the images",
        planted("holdout.npy", array(np.array([64]))),
        says="data/prepared: its arrays are not the images",
        run="evolve",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_prepared_images_are_refused(case, refuses):
    assert not re.search(r"np\.|numpy\.", refuses(case))

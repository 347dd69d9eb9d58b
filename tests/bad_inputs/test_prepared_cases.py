"""data/prepared: missing, damaged, changed between the stages, or somebody else's."""

import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.bad_inputs.case import Case, Change, cut, edit, flip, remove, row, write

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


def spoilt(says: str, *change: Change, run: str = "prepared") -> Case:
    return row(run, says, REMEDY, *change)


CASES = [
    *(
        spoilt(f"{META}: not found", remove("data/prepared"), run=stage)
        for stage in ("evolve", "train", "evaluate", "robustness", "export")
    ),
    *(
        spoilt(f"{IMAGES}: damaged, its checksum is not the one in meta.json", flip(IMAGES), run=stage)
        for stage in ("evolve", "train")
    ),
    spoilt("test_images.npy: damaged", flip("data/prepared/test_images.npy"), run="evaluate"),
    spoilt("holdout.npy: damaged", flip("data/prepared/holdout.npy", 0.9), run="evolve"),
    spoilt("data/prepared/train_labels.npy: not found", remove("data/prepared/train_labels.npy")),
    spoilt(f"{IMAGES}: damaged", cut(IMAGES)),
    spoilt(f"{META}: damaged (nested too deeply)", write(META, "[" * 100000)),
    spoilt(f"{META}: damaged (lacks n_train)", edit(META, '"n_train": \\d+,', "")),
    spoilt(f"{META}: damaged (num_classes: Input should be", meta(num_classes="ten")),
    spoilt(f"{META}: damaged (the number NaN", edit(META, "0\\.38", "NaN")),
    spoilt(f"{META}: damaged (its sha256 is not of these files)", meta(sha256={})),
    spoilt(f"{META}: damaged (its sha256 is not of these files)", meta(sha256={"../../params.yaml": "0"})),
    spoilt("train_labels.npy: not an", planted("train_labels.npy", array(np.array([{}], dtype=object)))),
    spoilt("train_labels.npy: not an", planted("train_labels.npy", b"PK\x03\x04" + bytes(50))),
    spoilt("data/prepared: its arrays are not the images", planted("train_labels.npy", array(np.full(64, 10)))),
    spoilt("data/prepared: its arrays are not the images", planted("train_labels.npy", array(np.zeros(64)))),
    spoilt("train_images.npy: not an", planted("train_labels.npy", array(np.zeros(63, dtype=int)))),
    spoilt(f"{IMAGES}: not an array", planted("train_images.npy", array(np.zeros((64, 1, 8, 8))))),
    spoilt("data/prepared: its arrays are not the images", planted("holdout.npy", array(np.array([64]))), run="evolve"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_prepared_images_are_refused(case, refuses):
    assert not re.search(r"np\.|numpy\.", refuses(case))

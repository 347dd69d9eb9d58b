"""data/prepared: missing, damaged, or changed between the stages."""

import json
import re
from pathlib import Path

import pytest

from tests.bad_inputs.case import Case, Change, cut, edit, flip, remove, row, write

META, IMAGES = "data/prepared/meta.json", "data/prepared/train_images.npy"
REMEDY = "`dvc repro prepare` makes it, `dvc pull` fetches it"


def meta(**values) -> Change:
    """Other values in meta.json."""

    def change(folder: Path) -> None:
        (folder / META).write_text(json.dumps(json.loads((folder / META).read_text()) | values))

    return change


def spoilt(says: str, *change: Change, run: str = "prepared") -> Case:
    return row(run, says, REMEDY, *change)


CASES = [
    *(spoilt(f"{META}: not found", remove("data/prepared"), run=stage) for stage in ("evolve", "train", "evaluate")),
    *(
        spoilt(f"{IMAGES}: damaged, its checksum is not the one in meta.json", flip(IMAGES), run=stage)
        for stage in ("evolve", "train")
    ),
    spoilt("data/prepared/train_labels.npy: not found", remove("data/prepared/train_labels.npy")),
    spoilt(f"{IMAGES}: damaged", cut(IMAGES)),
    spoilt(f"{META}: damaged (nested too deeply)", write(META, "[" * 100000)),
    spoilt(f"{META}: damaged (lacks n_train)", edit(META, '"n_train": \\d+,', "")),
    spoilt(f"{META}: damaged (num_classes: Input should be", meta(num_classes="ten")),
    spoilt(f"{META}: damaged (the number NaN", edit(META, "0\\.38", "NaN")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_prepared_images_are_refused(case, refuses):
    assert not re.search(r"np\.|numpy\.", refuses(case))

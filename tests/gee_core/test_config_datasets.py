"""The table of the data sets, and what the section `prepare` says of where the images come from."""

from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from gee_core.config import PrepareConfig
from gee_core.config.datasets import DATASETS, Dataset
from gee_core.data.folders import is_in_files

PRESET = Path(__file__).resolve().parents[2] / "presets/digits.yaml"
VALUES = YAML(typ="safe").load(PRESET.read_text(encoding="utf-8"))["prepare"]


def test_the_table_has_every_data_set_but_folder():
    assert get_args(Dataset) == (*DATASETS, "folder")


@pytest.mark.parametrize(
    ("dataset", "reads_path", "is_downloadable", "in_files"),
    [
        ("digits", False, False, [False, False]),
        ("fashion_mnist", True, True, [False, False]),
        ("cifar10", True, True, [False, True]),
        ("cifar100", True, True, [False, True]),
        ("folder", True, False, [True, True]),
    ],
)
def test_where_images_come_from(tmp_path, dataset, reads_path, is_downloadable, in_files):
    prepare = PrepareConfig(**VALUES | {"dataset": dataset, "path": str(tmp_path)})
    assert (prepare.reads_path, prepare.is_downloadable) == (reads_path, is_downloadable)
    before = is_in_files(prepare)
    (tmp_path / "train").mkdir()
    assert [before, is_in_files(prepare)] == in_files


@pytest.mark.parametrize(
    ("dataset", "image_size", "reason"),
    [("digits", 8, "digits does not come as image files"), ("fashion_mnist", 8, "fashion_mnist"), ("folder", None, "one size")],
)
def test_images_are_streamed_from_files_and_at_one_size(dataset, image_size, reason):
    with pytest.raises(ValidationError, match=f"stream = true: .*{reason}"):
        PrepareConfig(**VALUES | {"dataset": dataset, "image_size": image_size, "stream": True})

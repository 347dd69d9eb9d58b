import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from gee_core.data.prepared import load_prepared
from pipelines import prepare
from tests.gee_core.data.conftest import config as data_config


@pytest.fixture(autouse=True)
def _loader_workers(monkeypatch):
    monkeypatch.setenv("GEE_LOADER_WORKERS", "0")


def config(**changes):
    return data_config(**({"dataset": "digits", "max_train_images": 200, "max_test_images": 50} | changes))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 10), ("val", 2)):
        for k, name in enumerate(("cat", "dog")):
            (tmp_path / "raw" / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (6, 6), (20 * i, 100 * k, 7)).save(tmp_path / "raw" / split / name / f"{i}.png")
    return str(tmp_path / "raw")


def test_prepared_digits_are_split_the_same_each_time_and_measured(tmp_path):
    for name in ("out", "again"):
        prepare.run(config(), tmp_path / name)
    assert contents(tmp_path / "out") == contents(tmp_path / "again")
    data = load_prepared(tmp_path / "out")
    meta = data.meta
    assert (meta.dataset, meta.source) == ("digits", "scikit-learn digits")
    assert (meta.n_train, meta.n_test, meta.n_holdout) == (len(data.train), len(data.test), len(data.holdout))
    assert (meta.n_train, meta.n_test, meta.n_holdout) == (200, 50, 40)
    np.testing.assert_allclose(meta.mean, [(data.train.images.double() / 255).mean()])
    share = torch.bincount(data.train.labels) * 0.2
    assert ((torch.bincount(data.holdout_images().labels) - share).abs() < 1).all()


def test_a_folder_that_was_moved_gives_the_same_bytes(tmp_path, folder):
    settings = {"dataset": "folder", "max_train_images": None, "name": "pets"}
    prepare.run(config(path=folder, **settings), tmp_path / "before")
    (tmp_path / "raw").rename(tmp_path / "moved")
    prepare.run(config(path=str(tmp_path / "moved"), **settings), tmp_path / "after")
    assert contents(tmp_path / "before") == contents(tmp_path / "after")


def test_uneven_classes_an_unused_holdout_and_unread_folders_are_mentioned(tmp_path, folder):
    notes = []
    settings = {"dataset": "folder", "path": folder, "max_train_images": None, "name": "pets"}
    meta = prepare.run(config(**settings), tmp_path / "out", on_note=notes.append)
    assert (notes, meta.dataset) == ([], "pets")
    (tmp_path / "raw/val").rename(tmp_path / "raw/test")
    for name, count in (("cat", 1), ("dog", 30)):
        (tmp_path / "raw/val" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (6, 6), (3, i, 7)).save(tmp_path / "raw/val" / name / f"{i}.png")
    shutil.copytree(tmp_path / "raw/val", tmp_path / "raw/dev")
    meta = prepare.run(config(**settings), tmp_path / "out", on_note=notes.append)
    assert notes == [
        "the 31 images of val/ are the hold-out; prepare.holdout = 0.2 is not used",
        "not read: 31 images in dev/",
        "the classes are uneven: 'dog' has 40 training images, 3.6 times as many as 'cat' with 11",
    ]
    assert meta.class_counts == (11, 40)
    assert load_prepared(tmp_path / "out").holdout.tolist() == [*range(20, 51)]


def test_the_stage_reads_its_section_writes_the_images_and_prints_its_notes(in_project, folder, tmp_path, capsys):
    for i in range(2, 10):
        (tmp_path / f"raw/train/cat/{i}.png").unlink()
    in_project(prepare=config(dataset="folder", path=folder, max_train_images=None).model_dump())
    prepare.main()
    says = "the classes are uneven: 'dog' has 10 training images, 5.0 times as many as 'cat' with 2"
    assert capsys.readouterr().out == f"prepare: {says}\n"
    assert load_prepared(tmp_path / "data/prepared").meta.class_names == ("cat", "dog")

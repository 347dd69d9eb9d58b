import errno
from dataclasses import replace

import pytest
import torch

from gee_core.data import prepared as module
from gee_core.data.image_files import as_array
from gee_core.data.images import PackedImages, StreamedImages
from gee_core.data.prepared import Source, load_prepared, write_prepared
from gee_core.errors import InputError

LABELS = torch.arange(3).repeat(10)
HOLDOUT = torch.tensor([0, 4, 8, 12, 16, 20])
PACKED = "holdout.npy", "test_images.npy", "test_labels.npy", "train_images.npy", "train_labels.npy"


def packed(n, seed):
    images = torch.randint(0, 256, (n, 2, 5, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return PackedImages(images, LABELS[:n])


def write(folder, train=None, test=None, source="somewhere"):
    data = Source(source, ("a", "b", "c"), train or packed(30, 0), test or packed(9, 1), HOLDOUT)
    return write_prepared(folder, "folder", data, mean=(0.25, 0.5), std=(0.1, 1 / 3))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def streamed(make_folder, tmp_path):
    """The training and the test images in `out`, and its meta."""
    root = make_folder({"a": 3, "b": 3}, {"a": 1, "b": 1})
    names = [f"train/{name}/00{i}.png" for name in "ab" for i in range(3)]
    train = StreamedImages(as_array(names), torch.tensor([0, 0, 0, 1, 1, 1]), root, 8, 3)
    test = StreamedImages(as_array(["test/a/000.png", "test/b/000.png"]), torch.tensor([0, 1]), root, 8, 3)
    data = Source(str(root), ("a", "b"), train, test, torch.tensor([0, 3]), contents=("of train", "of test"))
    meta = write_prepared(tmp_path / "out", "folder", data, mean=(0.5,) * 3, std=(0.2,) * 3)
    return train, test, meta


def test_the_digest_is_of_the_images_and_class_names_not_of_their_source(tmp_path):
    meta = write(tmp_path / "out")
    assert meta.digest == write(tmp_path / "again", source="elsewhere").digest
    assert meta.digest != meta.model_copy(update={"class_names": ("a", "b", "d")}).digest
    assert meta.digest != write(tmp_path / "other", train=packed(30, 5)).digest


def test_what_is_read_is_what_was_written(tmp_path):
    meta = write(tmp_path / "out")
    data = load_prepared(tmp_path / "out")
    assert data.meta == meta
    assert sorted(contents(tmp_path / "out")) == sorted([*PACKED, "meta.json"])
    for found, wanted in ((data.train, packed(30, 0)), (data.test, packed(9, 1))):
        assert torch.equal(found.images, wanted.images)
        assert torch.equal(found.labels, wanted.labels)
        assert (found.images.dtype, found.labels.dtype) == (torch.uint8, torch.int64)
    assert torch.equal(data.holdout, HOLDOUT)


def test_a_failed_write_leaves_nothing_or_what_was_there(tmp_path, monkeypatch):
    write(tmp_path / "old")
    before = contents(tmp_path / "old")

    def failing(file):
        if file.name.endswith("holdout.npy"):  # the last of the arrays
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "flush", failing)
    for name in ("new", "old"):
        with pytest.raises(InputError, match=r"cannot be written \(no space left on device\): free some space"):
            write(tmp_path / name, train=packed(30, 7))
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert contents(tmp_path / "old") == before


def test_a_write_replaces_the_folder_and_what_a_killed_one_left(tmp_path):
    write(tmp_path / "out")
    (tmp_path / "out/stale.npy").write_bytes(b"")
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial/half.npy").write_bytes(b"")
    write(tmp_path / "out", train=packed(30, 7))
    assert sorted(contents(tmp_path / "out")) == sorted([*PACKED, "meta.json"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert torch.equal(load_prepared(tmp_path / "out").train.images, packed(30, 7).images)


def test_candidates_train_on_none_of_the_images_they_are_scored_on(tmp_path):
    numbered = replace(packed(30, 0), images=torch.arange(30, dtype=torch.uint8).view(30, 1, 1, 1).repeat(1, 2, 5, 5))
    write(tmp_path / "out", train=numbered)
    data = load_prepared(tmp_path / "out")
    everything, part = data.proxy_train(), data.proxy_train(12)
    which = {name: set(x.images[:, 0, 0, 0].tolist()) for name, x in [("all", everything), ("part", part)]}
    assert which["all"] == set(range(30)) - set(HOLDOUT.tolist())
    assert which["part"] < which["all"]
    assert torch.bincount(part.labels).tolist() == [4, 4, 4]
    assert data.holdout_images().images[:, 0, 0, 0].tolist() == HOLDOUT.tolist()
    assert torch.equal(part.images, data.proxy_train(12).images)


def test_streamed_images_are_kept_as_a_list_of_files_and_read_back_the_same(tmp_path, streamed):
    train, test, meta = streamed
    assert meta.stream
    assert (tmp_path / "out/train_files.txt").read_text().splitlines() == train.files
    assert not (tmp_path / "out/train_images.npy").exists()
    data = load_prepared(tmp_path / "out")
    assert data.meta == meta
    for left, right in ((data.train, train), (data.test, test)):
        for (a, k), (b, m) in zip(left.batches(4), right.batches(4), strict=True):
            assert torch.equal(a, b)
            assert torch.equal(k, m)
    assert data.holdout_images().files == ["train/a/000.png", "train/b/000.png"]


def test_streamed_images_that_changed_or_went_since_are_an_input_error(tmp_path, streamed):
    image = streamed[0].root / "train/a/001.png"
    image.write_bytes(image.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"raw: its images have changed since they were prepared: prepare them again"):
        load_prepared(tmp_path / "out")
    image.unlink()
    with pytest.raises(InputError, match=r"train/a/001\.png: not found"):
        load_prepared(tmp_path / "out")

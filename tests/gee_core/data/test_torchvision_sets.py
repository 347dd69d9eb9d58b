import errno
import hashlib
import os
import pickle
import struct
from urllib.error import URLError

import numpy as np
import pytest
from torchvision import datasets

from gee_core.config.datasets import DATASETS
from gee_core.data.torchvision_sets import TORCHVISION, torchvision_images
from gee_core.errors import InputError


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def offline(*_, **__):
        raise URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr("urllib.request.urlopen", offline)


@pytest.mark.parametrize("dataset", TORCHVISION)
def test_the_table_names_the_files_of_torchvision(dataset):
    known, kind = DATASETS[dataset], getattr(datasets, TORCHVISION[dataset])
    if dataset == "fashion_mnist":
        files = {name.removesuffix(".gz") for name, _ in kind.resources}
    else:
        files = {name for name, _ in [*kind.train_list, *kind.test_list]} | {kind.meta["filename"]}
        assert known.folder == kind.base_folder
    assert files == set(known.files)


def write_fashion_mnist(root, n=20):
    folder = root / "FashionMNIST/raw"
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (2, n, 28, 28), dtype=np.uint8)
    labels = np.arange(n, dtype=np.uint8) % 10
    for split, values in zip(("train", "t10k"), images, strict=True):
        header = struct.pack(">4B3I", 0, 0, 8, 3, n, 28, 28)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(header + values.tobytes())
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, n) + labels.tobytes())
    return images, labels


def write_cifar10(root, monkeypatch, n=20):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (2, n, 3, 32, 32), dtype=np.uint8)
    labels = [k % 10 for k in range(n)]
    contents = {
        name: {"data": values.reshape(n, -1), "labels": labels}
        for name, values in zip(("data_batch_1", "test_batch"), images, strict=True)
    }
    contents["batches.meta"] = {"label_names": [f"class{k}" for k in range(10)]}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
    md5 = {name: hashlib.md5(pickle.dumps(content)).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["data_batch_1", md5["data_batch_1"]]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return images, labels


def test_fashion_mnist_on_disk_is_read_without_a_download(tmp_path):
    images, labels = write_fashion_mnist(tmp_path)
    source, names, train, test = torchvision_images("fashion_mnist", tmp_path)
    np.testing.assert_array_equal(train.images[:, 0].numpy(), images[0])
    np.testing.assert_array_equal(test.images[:, 0].numpy(), images[1])
    np.testing.assert_array_equal(train.labels.numpy(), labels)
    assert (source, names[0]) == ("torchvision FashionMNIST", "T-shirt/top")


def test_cifar_batches_on_disk_are_read_channels_first(tmp_path, monkeypatch):
    images, labels = write_cifar10(tmp_path, monkeypatch)
    _, names, train, test = torchvision_images("cifar10", tmp_path)
    np.testing.assert_array_equal(train.images.numpy(), images[0])
    np.testing.assert_array_equal(test.images.numpy(), images[1])
    assert test.labels.tolist() == labels
    assert names[3] == "class3"


@pytest.mark.parametrize(
    ("dataset", "where", "remedy"),
    [
        ("fashion_mnist", "FashionMNIST/raw", "t10k-labels-idx1-ubyte.gz into {}/FashionMNIST/raw, or go online"),
        ("cifar10", "cifar-10-batches-py", "put torchvision's cifar-10-python.tar.gz into {}, or go online"),
    ],
)
def test_a_failed_download_says_what_was_looked_for_where_and_why(tmp_path, dataset, where, remedy, capfd):
    (tmp_path / where).mkdir(parents=True)
    (tmp_path / where / DATASETS[dataset].files[0]).write_bytes(b"half of it")  # as a kill while unpacking leaves it
    with pytest.raises(InputError) as caught:
        torchvision_images(dataset, tmp_path)
    start = f"`dataset` = {dataset}: absent or damaged in {tmp_path / where}, and cannot be downloaded ("
    assert caught.value.problem.startswith(start)
    assert caught.value.remedy.endswith(remedy.format(tmp_path))
    assert capfd.readouterr().out == ""


def test_a_full_disk_while_unpacking_is_named(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(datasets.FashionMNIST, "download", full)
    with pytest.raises(InputError, match=f"fashion_mnist: {tmp_path}: no space left on device: free some space"):
        torchvision_images("fashion_mnist", tmp_path)

import gzip
import hashlib
import pickle
import struct

import numpy as np
import pytest
import torch
from torchvision import datasets

from gee_core.data import torchvision_sets as module
from gee_core.data.torchvision_sets import torchvision_images
from gee_core.errors import InputError


@pytest.fixture(autouse=True)
def _of_twenty_images_and_offline(monkeypatch):
    def offline(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr(module, "FASHION_MNIST", {"train": 20, "t10k": 20})


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


def test_fashion_mnist_on_disk_is_read_without_a_download(tmp_path):
    images, labels = write_fashion_mnist(tmp_path)
    _, names, train, test = torchvision_images("fashion_mnist", tmp_path)
    np.testing.assert_array_equal(train.images[:, 0].numpy(), images[0])
    np.testing.assert_array_equal(test.images[:, 0].numpy(), images[1])
    np.testing.assert_array_equal(train.labels.numpy(), labels)
    assert names[0] == "T-shirt/top"


def idx(*shape, values=None):
    """A file in the format of Fashion-MNIST."""
    header = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
    return header + (bytes(int(np.prod(shape))) if values is None else bytes(values))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t10k-images-idx3-ubyte", idx(20, 28, 28)[:500], "shape '"),
        ("train-labels-idx1-ubyte", b"", "invalid literal"),
        ("train-images-idx3-ubyte", idx(20, 8, 8), "sizes (20, 8, 8), not (20, 28, 28)"),
        ("t10k-images-idx3-ubyte", idx(21, 28, 28), "sizes (21, 28, 28), not (20, 28, 28)"),
        ("t10k-labels-idx1-ubyte", idx(20, values=[0, 1, 2, 3, 4] * 4), "not 2 labels of each class"),
        ("train-labels-idx1-ubyte", idx(19, values=[*range(10), *range(9)]), "not 2 labels of each class"),
        ("train-labels-idx1-ubyte", idx(20, values=[10] * 20), "not 2 labels of each class"),
    ],
)
def test_files_that_are_not_fashion_mnists_are_an_input_error_that_names_one(tmp_path, name, content, says):
    write_fashion_mnist(tmp_path)
    (tmp_path / "FashionMNIST/raw" / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        torchvision_images("fashion_mnist", tmp_path)
    start = f"{tmp_path}: the files of fashion_mnist are damaged (FashionMNIST/raw/{name}: {says}"
    assert str(caught.value).startswith(start)
    assert caught.value.remedy.startswith("delete that file, or put the published one there")


def test_pickles_that_an_earlier_torchvision_kept_of_fashion_mnist_are_not_read(tmp_path):
    images, _ = write_fashion_mnist(tmp_path)
    (tmp_path / "FashionMNIST/processed").mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save(
            (torch.zeros(20, 28, 28, dtype=torch.uint8), torch.arange(20) % 10), tmp_path / "FashionMNIST/processed" / name
        )
    _, _, train, _ = torchvision_images("fashion_mnist", tmp_path)
    np.testing.assert_array_equal(train.images[:, 0].numpy(), images[0])
    (tmp_path / "FashionMNIST/raw/train-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="and the download failed"):
        torchvision_images("fashion_mnist", tmp_path)


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
    md5 = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        md5[name] = hashlib.md5(pickle.dumps(content)).hexdigest()
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["data_batch_1", md5["data_batch_1"]]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return images, labels


def test_cifar_batches_on_disk_are_read_channels_first(tmp_path, monkeypatch):
    images, labels = write_cifar10(tmp_path, monkeypatch)
    _, names, train, test = torchvision_images("cifar10", tmp_path)
    np.testing.assert_array_equal(train.images.numpy(), images[0])
    np.testing.assert_array_equal(test.images.numpy(), images[1])
    assert test.labels.tolist() == labels
    assert names[3] == "class3"


@pytest.mark.parametrize(
    ("dataset", "kind", "where"),
    [
        ("fashion_mnist", datasets.FashionMNIST, "FashionMNIST/raw"),
        ("cifar10", datasets.CIFAR10, "cifar-10-batches-py"),
        ("cifar100", datasets.CIFAR100, "cifar-100-python"),
    ],
)
def test_a_failed_download_says_what_was_looked_for_and_where(tmp_path, monkeypatch, dataset, kind, where, capfd):
    def download(self):
        print("Failed to download (trying next):")
        raise OSError("Name or service not known")

    monkeypatch.setattr(kind, "download", download)
    with pytest.raises(InputError) as caught:
        torchvision_images(dataset, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"prepare.dataset = {dataset}: not found in {tmp_path / where}, and the download failed")
    assert "Name or service not known" in message and "put torchvision's files there" in message
    assert ("class folders" in message) == dataset.startswith("cifar")
    assert capfd.readouterr().out == ""


def test_fashion_mnist_archives_on_disk_are_unpacked_without_the_internet(tmp_path, monkeypatch):
    images, _ = write_fashion_mnist(tmp_path)
    resources = []
    for path in sorted((tmp_path / "FashionMNIST/raw").iterdir()):
        packed = path.with_suffix(".gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        resources.append((packed.name, hashlib.md5(packed.read_bytes()).hexdigest()))
        path.unlink()
    monkeypatch.setattr(datasets.FashionMNIST, "resources", resources)
    _, _, train, _ = torchvision_images("fashion_mnist", tmp_path)
    np.testing.assert_array_equal(train.images[:, 0].numpy(), images[0])

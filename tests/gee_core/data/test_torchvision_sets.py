import errno
import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
from http.client import BadStatusLine
from urllib.error import URLError

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
        raise URLError(OSError(-2, "Name or service not known"))

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


SETS = pytest.mark.parametrize(
    ("dataset", "where", "into", "archive"),
    [
        ("fashion_mnist", "FashionMNIST/raw", "FashionMNIST/raw", "t10k-labels-idx1-ubyte.gz"),
        ("cifar10", "cifar-10-batches-py", "", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-python", "", "cifar-100-python.tar.gz"),
    ],
)


@SETS
def test_a_failed_download_says_what_was_looked_for_where_and_why(tmp_path, dataset, where, into, archive, capfd):
    with pytest.raises(InputError) as caught:
        torchvision_images(dataset, tmp_path)
    message = str(caught.value)
    assert message.startswith(
        f"prepare.dataset = {dataset}: not found in {tmp_path / where}, and the download failed (<urlopen "
    )
    assert "Name or service not known>): put torchvision's " in message
    assert f"{archive} into {tmp_path / into}, or" in message and message.endswith("or go online")
    assert ("class folders" in message) == dataset.startswith("cifar")
    assert capfd.readouterr().out == ""


def test_a_set_that_lies_near_by_is_named(tmp_path):
    write_fashion_mnist(tmp_path / "a")
    for path, remedy in (
        ("a/FashionMNIST/raw", f"set prepare.path to {tmp_path / 'a'}, where they are"),
        ("a/FashionMNIST", f"set prepare.path to {tmp_path / 'a'}, where they are"),
        ("", f"set prepare.path to {tmp_path / 'a'}, where they are"),
    ):
        with pytest.raises(InputError) as caught:
            torchvision_images("fashion_mnist", tmp_path / path)
        assert caught.value.remedy.startswith(remedy)
    (tmp_path / "a/FashionMNIST/raw").rename(tmp_path / "b")
    with pytest.raises(
        InputError, match=f"move the files in {tmp_path / 'b'} to {tmp_path / 'b/FashionMNIST/raw'}, or go online$"
    ):
        torchvision_images("fashion_mnist", tmp_path / "b")


@pytest.fixture
def packed_fashion_mnist(tmp_path, monkeypatch):
    """The training images, and the archives in their folder."""
    images, _ = write_fashion_mnist(tmp_path)
    raw, resources = tmp_path / "FashionMNIST/raw", []
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        content = gzip.compress((raw / name).read_bytes())
        (raw / f"{name}.gz").write_bytes(content)
        (raw / name).unlink()
        resources.append((f"{name}.gz", hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(datasets.FashionMNIST, "resources", resources)
    return images[0], raw


def test_fashion_mnist_archives_on_disk_are_unpacked_without_the_internet(tmp_path, packed_fashion_mnist):
    images, raw = packed_fashion_mnist
    for name in ("", "t10k-images-idx3-ubyte"):
        if name:  # the archives of the others may have been deleted
            (raw / name).unlink()
            for archive in set(raw.glob("*.gz")) - {raw / f"{name}.gz"}:
                archive.unlink()
        _, _, train, _ = torchvision_images("fashion_mnist", tmp_path)
        np.testing.assert_array_equal(train.images[:, 0].numpy(), images)


@pytest.mark.parametrize(
    ("absent", "cut", "says"),
    [
        (
            "train-labels-idx1-ubyte",
            "",
            "{raw} lacks train-labels-idx1-ubyte, and the download failed .*: put it there, or go",
        ),
        ("", "train-images-idx3-ubyte", "{raw} holds train-images-idx3-ubyte.gz with a wrong checksum, and .*: delete it, "),
        (
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
            "{raw} lacks t10k-images-idx3-ubyte and holds t10k-labels-idx1-ubyte.gz with a wrong checksum, and the",
        ),
    ],
)
def test_the_archives_that_are_absent_or_cut_off_are_named_and_no_others(tmp_path, packed_fashion_mnist, absent, cut, says):
    _, raw = packed_fashion_mnist
    if absent:
        (raw / f"{absent}.gz").unlink()
    if cut:
        (raw / f"{cut}.gz").write_bytes((raw / f"{cut}.gz").read_bytes()[:-9])
    with pytest.raises(InputError, match=f"^prepare.dataset = fashion_mnist: {says.format(raw=raw)}"):
        torchvision_images("fashion_mnist", tmp_path)


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "free some space, then run it again"), (errno.EROFS, "mount it writable, or work in")]
)
def test_a_full_or_read_only_disk_while_unpacking_is_named_and_leaves_no_half_file(
    tmp_path, packed_fashion_mnist, number, remedy, monkeypatch
):
    def failing(archive):
        with open(archive.removesuffix(".gz"), "wb") as file:
            file.write(b"half")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("torchvision.datasets.utils.extract_archive", failing)
    with pytest.raises(InputError, match=f"fashion_mnist: {tmp_path}: {os.strerror(number).lower()}: {remedy}"):
        torchvision_images("fashion_mnist", tmp_path)
    assert len(list(packed_fashion_mnist[1].iterdir())) == 4


def online(monkeypatch, folder):
    """Lets the files in ``folder`` be downloaded."""

    def opened(request):
        response = io.BytesIO((folder / request.full_url.rpartition("/")[2]).read_bytes())
        response.url, response.length = request.full_url, None
        return response

    monkeypatch.setattr("urllib.request.urlopen", opened)


@pytest.mark.parametrize("dataset", ["fashion_mnist", "cifar10"])
def test_an_answer_that_is_no_http_is_a_download_that_failed(dataset, tmp_path, monkeypatch):
    def portal(*_, **__):
        raise BadStatusLine("<html>")

    monkeypatch.setattr("urllib.request.urlopen", portal)
    with pytest.raises(InputError, match=r"not found in .*, and the download failed \(<html>\)"):
        torchvision_images(dataset, tmp_path)


def test_fashion_mnist_is_downloaded_where_some_of_it_is_absent(tmp_path, packed_fashion_mnist, monkeypatch):
    images, raw = packed_fashion_mnist
    (tmp_path / "published").mkdir()
    for name in ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (raw / name).rename(tmp_path / "published" / name)
    online(monkeypatch, tmp_path / "published")
    _, _, train, _ = torchvision_images("fashion_mnist", tmp_path)
    np.testing.assert_array_equal(train.images[:, 0].numpy(), images)


@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize("spoilt", ["data_batch_1", "batches.meta", None])
def test_cifar_is_unpacked_or_downloaded_where_some_of_it_is_absent(tmp_path, monkeypatch, on_disk, spoilt):
    images, _ = write_cifar10(tmp_path, monkeypatch)
    folder, archive = tmp_path / "cifar-10-batches-py", (tmp_path if on_disk else tmp_path.parent) / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(folder, folder.name)
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    if not on_disk:
        online(monkeypatch, archive.parent)
    if spoilt and on_disk:
        (folder / spoilt).write_bytes(b"cut off")
    elif spoilt:
        (folder / spoilt).unlink()
    else:
        folder.rename(tmp_path / "elsewhere")
    _, names, train, _ = torchvision_images("cifar10", tmp_path)
    np.testing.assert_array_equal(train.images.numpy(), images[0])
    assert names[3] == "class3"


def test_cifar_files_with_a_wrong_checksum_are_named_before_any_download_and_kept(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch)
    folder = tmp_path / "cifar-10-batches-py"
    (folder / "data_batch_1").unlink()
    (folder / "test_batch").write_bytes(b"mine")
    monkeypatch.setattr("urllib.request.urlopen", lambda *_: pytest.fail("a download"))
    says = f"cifar10: {folder} lacks data_batch_1 and holds test_batch with a wrong checksum: delete it, then put whole"
    with pytest.raises(InputError, match=says):
        torchvision_images("cifar10", tmp_path)
    assert (folder / "test_batch").read_bytes() == b"mine"

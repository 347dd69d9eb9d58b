import hashlib
import tarfile
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets

from gee_core.config.prepare import DATASETS
from gee_core.data.sources import TORCHVISION, open_torchvision
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


@pytest.mark.parametrize("dataset", ["fashion_mnist", "cifar10"])
def test_images_of_torchvision_are_read_channels_first_with_their_classes(dataset, monkeypatch, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 20, 8, 8, 3), dtype=np.uint8)
    grey = dataset == "fashion_mnist"

    class Stub:
        """Holds what torchvision's class has read: a tensor (N, H, W), or an array (N, H, W, C), and labels."""

        classes = tuple(f"class{k}" for k in range(10))

        def __init__(self, path, train, download):
            assert (path, download) == (tmp_path, True)
            self.data = torch.from_numpy(images[int(train), ..., 0]) if grey else images[int(train)]
            self.targets = [k % 10 for k in range(20)]

    monkeypatch.setattr(datasets, TORCHVISION[dataset], Stub)
    (names, train), (_, test) = (open_torchvision(dataset, tmp_path, is_train) for is_train in (True, False))
    channels = images[..., :1] if grey else images
    np.testing.assert_array_equal(train.images.numpy(), channels[1].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(test.images.numpy(), channels[0].transpose(0, 3, 1, 2))
    assert test.labels.tolist() == [k % 10 for k in range(20)]
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
        open_torchvision(dataset, tmp_path, train=True)
    start = f"prepare.dataset = {dataset}: absent or damaged in {tmp_path / where}, and cannot be downloaded ("
    assert str(caught.value).startswith(start)
    assert caught.value.remedy.endswith(remedy.format(tmp_path))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("is_published", [True, False])
def test_an_archive_is_unpacked_if_its_md5_is_the_published_one(is_published, tmp_path, monkeypatch):
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.addfile(tarfile.TarInfo("cifar-10-batches-py/note"))
    if is_published:
        monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    with pytest.raises(InputError, match="cifar10: absent or damaged"):  # the archive has no images
        open_torchvision("cifar10", tmp_path, train=False)
    assert (tmp_path / "cifar-10-batches-py/note").exists() is is_published

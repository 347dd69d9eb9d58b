"""Raw images: folders of files, and the archives that torchvision downloads."""

import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.bad_inputs.case import Case, Change, cut, link, param, remove, write
from tests.bad_inputs.conftest import hashes


def picture(size: tuple[int, int] = (8, 8), mode: str = "RGB", form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 100).save(file, form)
    return file.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says it has side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def pipe(path: str) -> Change:
    return lambda folder: os.mkfifo(folder / path)


def folder(
    name: str, *change: Change, says: str, remedy: str, stream: bool = False, run: str = "prepare", **params: str
) -> Case:
    keys = {"dataset": "folder", "path": "images", "stream": str(stream).lower()} | params
    spoil = tuple(param(f"prepare.{key}", value) for key, value in keys.items())
    return Case(name=name, run=run, change=(*change, *spoil), says=says, remedy=remedy)


CAT = "images/train/cat/2.png"
BAD_FILE = "replace or remove it"

FOLDERS = [
    folder("not there", says="nowhere: no such folder", remedy="set prepare.path", path="nowhere"),
    folder("a file in its place", says="dvc.yaml: a file, not a folder", remedy="set prepare.path", path="dvc.yaml"),
    folder("a name that is too long", says="file name too long", remedy="shorten it", path="x" * 300),
    folder(
        "test images alone",
        remove("images/train"),
        says="images/train: no such folder",
        remedy="or set prepare.path to images/test to split its images",
    ),
    folder(
        "test images twice",
        write("images/Testing/cat/0.png", picture()),
        says="images: holds Testing/ and test/",
        remedy="keep one, as test/",
    ),
    folder(
        "no test/ and one image in a class",
        remove("images/test"),
        write("images/train/emu/0.png", picture()),
        says="images: class 'emu' has 1 image, at least 3 are needed",
        remedy="add images, or remove the folder",
    ),
    folder(
        "a hold-out of one class",
        write("images/val/cat/0.png", picture()),
        says="images/train/dog: class 'dog' has no folder in images/val",
        remedy="add its images for the hold-out, or remove it",
    ),
    folder(
        "a folder around the class folders",
        lambda f: (f / "images/train").rename(f / "images/photographs"),
        remove("images/test"),
        says="images: holds one class only, 'photographs'",
        remedy="set prepare.path to images/photographs",
    ),
    folder(
        "no images at all",
        remove("images"),
        lambda f: (f / "images").mkdir(),
        says="images: holds no class folders",
        remedy="make one folder per class and put its images there",
    ),
    folder(
        "an empty train/",
        remove("images/train"),
        lambda f: (f / "images/train").mkdir(),
        says="images/train: holds no class folders",
        remedy="make one folder per class",
    ),
    folder(
        "an empty class",
        remove("images/train/cat"),
        lambda f: (f / "images/train/cat").mkdir(),
        says="images/train/cat: holds no images",
        remedy="add some, or remove the folder",
    ),
    folder(
        "one class",
        remove("images/train/cat"),
        remove("images/test/cat"),
        says="holds one class only, 'dog'",
        remedy="at least 2 are needed",
    ),
    folder(
        "a class that DVC has not seen yet",
        write("images/test/emu/0.png", picture()),
        says="images/test/emu: class 'emu' has no folder in images/train",
        remedy="add its training images, or remove it",
        run="gee run",
    ),
    folder(
        "a class in test that train lacks",
        write("images/test/emu/0.png", picture()),
        says="images/test/emu: class 'emu' has no folder in images/train",
        remedy="add its training images, or remove it",
    ),
    folder(
        "a class in train that test lacks",
        write("images/train/emu/0.png", picture()),
        says="images/train/emu: class 'emu' has no folder in images/test",
        remedy="add its test images, or remove it",
    ),
    folder(
        "a class name with colours of a terminal",
        write("images/train/\x1b[31m/0.png", picture()),
        says=r"the class folder '\x1b[31m' has unprintable characters",
        remedy="rename it",
    ),
    folder("an empty image", write(CAT, b""), says=f"{CAT}: not a readable image", remedy=BAD_FILE),
    folder("text in an image", write(CAT, "a cat"), says=f"{CAT}: not a readable image", remedy=BAD_FILE),
    folder("half an image", cut(CAT), says=f"{CAT}: not a readable image", remedy=BAD_FILE),
    folder(
        "half an image, streamed",
        cut(CAT),
        says=f"{CAT}: not a readable image",
        remedy=BAD_FILE,
        stream=True,
        image_size="8",
    ),
    folder(
        "a class folder that is a link",
        lambda f: (f / "images/train/cat").rename(f / "cats"),
        link("images/train/cat", "../../cats"),
        says="images/train/cat: is a link to a folder, and DVC would notice no change of the images behind it",
        remedy="set prepare.path to a folder of links to the files",
    ),
    folder("PostScript in an image", write(CAT, picture(form="EPS")), says=f"{CAT}: not a readable image", remedy=BAD_FILE),
    folder("a bomb", write(CAT, bomb(9000)), says=f"{CAT}: has more pixels than is safe", remedy="shrink or remove it"),
    folder("a greater bomb", write(CAT, bomb(60_000)), says=f"{CAT}: has more pixels", remedy="shrink or remove it"),
    folder("a pipe", remove(CAT), pipe(CAT), says=f"{CAT}: not a file", remedy=BAD_FILE),
    folder("a link to a device", link(CAT, "/dev/zero"), says=f"{CAT}: not a file", remedy=BAD_FILE),
    folder("a link to a secret", link(CAT, "../../../params.yaml"), says=f"{CAT}: not a readable image", remedy=BAD_FILE),
    folder("a link to nothing", link(CAT, "gone.png"), says=f"{CAT}: not found (a link to gone.png)", remedy="or remove it"),
    folder("a link to itself", link(CAT, "2.png"), says=f"{CAT}: not a readable image", remedy=BAD_FILE),
    folder(
        "mixed sizes",
        write(CAT, picture((9, 8))),
        says="images: its images have 2 sizes, from 8x8 (train/cat/0.png) to 9x8 (train/cat/2.png)",
        remedy="set prepare.image_size to bring all to one size (the median of their shorter sides is 8)",
    ),
    folder(
        "not square",
        lambda f: [path.write_bytes(picture((9, 8))) for path in f.glob("images/*/*/*.png")],
        says="images: its images are 9x8, not square",
        remedy="set prepare.image_size to make them so",
    ),
    folder("more images than memory", says="GB packed, this machine has", remedy="set prepare.stream", image_size="1024"),
    folder(
        "fewer images than classes",
        says="prepare.max_train_images: 1 of 12 images cannot show all 2 classes",
        remedy="ask for more",
        max_train_images="1",
    ),
    folder(
        "no image left to train on",
        says="prepare.holdout = 0.9: leaves class 'cat' no image to train on",
        remedy="lower it",
        holdout="0.9",
    ),
    folder("streamed at its own size", says="prepare: stream = true: images need one size", remedy="image_size", stream=True),
    folder(
        "a line break in the name of a streamed file",
        write("images/train/cat/a\nb.png", picture()),
        says="images: a file name holds a line break",
        remedy="rename it",
        stream=True,
        image_size="8",
    ),
    folder(
        "folders of two classes as CIFAR",
        says="images/train: holds 2 class folders, cifar100 has 100",
        remedy="set prepare.dataset to folder",
        dataset="cifar100",
    ),
    folder("digits, streamed", says="prepare: stream = true: digits does", remedy="false", stream=True, dataset="digits"),
]


def download(name: str, dataset: str, *change: Change, says: str, remedy: str) -> Case:
    spoil = (param("prepare.dataset", dataset), param("prepare.path", "raw"), lambda f: (f / "raw").mkdir(exist_ok=True))
    return Case(name=name, run="prepare", change=(*spoil, *change), says=says, remedy=remedy)


def idx(kind: int, *shape: int) -> bytes:
    """A file of FashionMNIST without its values."""
    return struct.pack(f">4B{len(shape)}I", 0, 0, kind, len(shape), *shape)


RAW = "raw/FashionMNIST/raw"
FASHION = [
    write(f"{RAW}/{split}-{what}", b"") for split in ("train", "t10k") for what in ("images-idx3-ubyte", "labels-idx1-ubyte")
]

DOWNLOADS = [
    download(
        "nothing, and offline",
        "cifar10",
        says="prepare.dataset = cifar10: absent or damaged in raw/cifar-10-batches-py",
        remedy="or go online",
    ),
    download(
        "half an archive",
        "cifar10",
        write("raw/cifar-10-python.tar.gz", b"\x1f\x8b" + bytes(100)),
        says="prepare.dataset = cifar10: absent or damaged in raw/cifar-10-batches-py, and cannot be downloaded",
        remedy="delete what is there",
    ),
    download(
        "half an archive of FashionMNIST",
        "fashion_mnist",
        write(f"{RAW}/train-images-idx3-ubyte.gz", b"\x1f\x8b" + bytes(100)),
        says="absent or damaged in raw/FashionMNIST/raw, and cannot be downloaded",
        remedy="delete what is there",
    ),
    download(
        "batches of CIFAR that are others",
        "cifar10",
        write("raw/cifar-10-batches-py/data_batch_1", b"cos\nsystem\n(S'false'\ntR."),
        says="absent or damaged in raw/cifar-10-batches-py, and cannot be downloaded",
        remedy="delete what is there",
    ),
    download(
        "empty files of FashionMNIST",
        "fashion_mnist",
        *FASHION,
        says="absent or damaged in raw/FashionMNIST/raw, and cannot be downloaded",
        remedy="delete what is there",
    ),
    download(
        "files of FashionMNIST that say too much",
        "fashion_mnist",
        *FASHION,
        write(f"{RAW}/train-images-idx3-ubyte", idx(8, 2**31, 2**31, 2**31)),
        says="absent or damaged in raw/FashionMNIST/raw, and cannot be downloaded",
        remedy="delete what is there",
    ),
]
CASES = FOLDERS + DOWNLOADS


@pytest.fixture
def machine(monkeypatch):
    """Offline, and with little memory."""

    def offline(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("gee_core.data.sources.os.sysconf", lambda name: 2**12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_images_are_refused(case, refuses, machine):
    refuses(case)


def test_a_class_folder_whose_folders_link_in_a_circle_is_walked_once(project, run):
    for key, value in {"dataset": "folder", "path": "images"}.items():
        param(f"prepare.{key}", value)(project)
    (project / "images/train/cat/more").symlink_to(project / "images/train/cat")
    before = hashes(project / "images")
    assert run("prepare")[0] == 0
    assert hashes(project / "images") == before
    assert "cat/more" not in Path("data/prepared/meta.json").read_text()


def test_prepared_images_that_are_a_link_are_replaced_and_what_it_leads_to_is_left(project, run, tmp_path):
    (project / "data/prepared").rename(tmp_path / "elsewhere")
    (project / "data/prepared").symlink_to(tmp_path / "elsewhere")
    before = hashes(tmp_path / "elsewhere")
    assert run("prepare")[0] == 0
    assert hashes(tmp_path / "elsewhere") == before
    assert not (project / "data/prepared").is_symlink()

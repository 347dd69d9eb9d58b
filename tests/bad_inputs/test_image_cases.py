"""Raw images: folders of files, and the archives that torchvision downloads."""

import io
import os
import struct
import zlib

import pytest
from PIL import Image

from tests.bad_inputs.case import Case, Change, cut, link, param, remove, row, write


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


def folder(says: str, remedy: str, *change: Change, stream: bool = False, run: str = "images", **params: str) -> Case:
    keys = {"dataset": "folder", "path": "images", "stream": str(stream).lower()} | params
    return row(run, says, remedy, *change, *(param(f"prepare.{key}", value) for key, value in keys.items()))


CAT = "images/train/cat/2.png"
BAD_FILE = "replace or remove it"

FOLDERS = [
    folder("nowhere: no such folder", "set prepare.path", path="nowhere"),
    folder("images/train: no such folder", "or set prepare.path to images/test to split its images", remove("images/train")),
    folder("images: holds Testing/ and test/", "keep one, as test/", write("images/Testing/cat/0.png", picture())),
    folder(
        "images: class 'emu' has 1 image, at least 3 are needed",
        "add images, or remove the folder",
        remove("images/test"),
        write("images/train/emu/0.png", picture()),
    ),
    folder(
        "images/train/dog: class 'dog' has no folder in images/val",
        "add its images for the hold-out, or remove it",
        write("images/val/cat/0.png", picture()),
    ),
    folder(
        "images: holds one class only, 'photographs'",
        "set prepare.path to images/photographs",
        lambda f: (f / "images/train").rename(f / "images/photographs"),
        remove("images/test"),
    ),
    folder(
        "images: holds no class folders",
        "make one folder per class and put its images there",
        remove("images"),
        lambda f: (f / "images").mkdir(),
    ),
    folder(
        "images/train/cat: holds no images",
        "add some, or remove the folder",
        remove("images/train/cat"),
        lambda f: (f / "images/train/cat").mkdir(),
    ),
    folder(
        "images/test/emu: class 'emu' has no folder in images/train",
        "add its training images, or remove it",
        write("images/test/emu/0.png", picture()),
        run="gee run",
    ),
    folder(
        "images/train/emu: class 'emu' has no folder in images/test",
        "add its test images, or remove it",
        write("images/train/emu/0.png", picture()),
    ),
    folder(
        "the class folder '\\x1b[31m' has unprintable characters", "rename it", write("images/train/\x1b[31m/0.png", picture())
    ),
    folder(f"{CAT}: not a readable image", BAD_FILE, write(CAT, b"")),
    folder(f"{CAT}: not a readable image", BAD_FILE, cut(CAT)),
    folder(f"{CAT}: not a readable image", BAD_FILE, cut(CAT), stream=True, image_size="8"),
    folder(
        "images/train/cat: is a link to a folder, and DVC would notice no change of the images behind it",
        "set prepare.path to a folder of links to the files",
        lambda f: (f / "images/train/cat").rename(f / "cats"),
        link("images/train/cat", "../../cats"),
    ),
    folder(f"{CAT}: not a readable image", BAD_FILE, write(CAT, picture(form="EPS"))),
    folder(f"{CAT}: has more pixels than is safe", "shrink or remove it", write(CAT, bomb(9000))),
    folder(f"{CAT}: not a file", BAD_FILE, remove(CAT), pipe(CAT)),
    folder(f"{CAT}: not found", "or remove it", link(CAT, "gone.png")),
    folder(
        "images: its images have 2 sizes, from 8x8 (train/cat/0.png) to 9x8 (train/cat/2.png)",
        "set prepare.image_size to bring all to one size (the median of their shorter sides is 8)",
        write(CAT, picture((9, 8))),
    ),
    folder(
        "images: its images are 9x8, not square",
        "set prepare.image_size to make them so",
        lambda f: [path.write_bytes(picture((9, 8))) for path in f.glob("images/*/*/*.png")],
    ),
    folder("GB packed, this machine has", "set prepare.stream", image_size="1024"),
    folder("prepare.max_train_images: 1 of 12 images cannot show all 2 classes", "ask for more", max_train_images="1"),
    folder("prepare.holdout = 0.9: leaves class 'cat' no image to train on", "lower it", holdout="0.9"),
    folder("prepare: stream = true: images need one size", "image_size", stream=True),
    folder(
        "images: a file name holds a line break",
        "rename it",
        write("images/train/cat/a\nb.png", picture()),
        stream=True,
        image_size="8",
    ),
    folder("images/train: holds 2 class folders, cifar100 has 100", "set prepare.dataset to folder", dataset="cifar100"),
    folder("prepare: stream = true: digits does", "false", stream=True, dataset="digits"),
]


def download(dataset: str, says: str, remedy: str, *change: Change) -> Case:
    spoil = (param("prepare.dataset", dataset), param("prepare.path", "raw"), lambda f: (f / "raw").mkdir(exist_ok=True))
    return row("images", says, remedy, *spoil, *change)


def idx(kind: int, *shape: int) -> bytes:
    """A file of FashionMNIST without its values."""
    return struct.pack(f">4B{len(shape)}I", 0, 0, kind, len(shape), *shape)


RAW = "raw/FashionMNIST/raw"
FASHION = [
    write(f"{RAW}/{split}-{what}", b"") for split in ("train", "t10k") for what in ("images-idx3-ubyte", "labels-idx1-ubyte")
]

DOWNLOADS = [
    download("cifar10", "prepare.dataset = cifar10: absent or damaged in raw/cifar-10-batches-py", "or go online"),
    *(
        download(dataset, f"absent or damaged in raw/{place}, and cannot be downloaded", "delete what is there", *spoilt)
        for dataset, place, *spoilt in [
            ("cifar10", "cifar-10-batches-py", write("raw/cifar-10-batches-py/data_batch_1", b"cos\nsystem\n(S'false'\ntR.")),
            ("fashion_mnist", "FashionMNIST/raw", write(f"{RAW}/train-images-idx3-ubyte.gz", b"\x1f\x8b" + bytes(100))),
            (
                "fashion_mnist",
                "FashionMNIST/raw",
                *FASHION,
                write(f"{RAW}/train-images-idx3-ubyte", idx(8, 2**31, 2**31, 2**31)),
            ),
        ]
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

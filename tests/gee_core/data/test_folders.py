import os
import shutil

import pytest

from gee_core.data.folders import linked_folders, list_images
from gee_core.errors import InputError

TWO = {"cat": 2, "dog": 3}


@pytest.mark.parametrize(
    ("folders", "train", "val", "test"),
    [
        (("train", "test"), "train", None, "test"),
        (("train", "val"), "train", None, "val"),
        (("train", "val", "test"), "train", "val", "test"),
        (("Training", "valid", "TESTING", "notes"), "Training", "valid", "TESTING"),
        (("train",), "train", None, None),
        (("cat", "dog"), ".", None, None),
    ],
)
def test_where_the_splits_are_follows_from_the_names_of_the_folders(make_folder, folders, train, val, test):
    root = make_folder(TWO, TWO)
    shutil.move(root / "train", root.parent / "images")
    shutil.rmtree(root)
    for name in folders:
        source = root.parent / "images" / (name if train == "." else "")
        shutil.copytree(source, root / name)
    listing = list_images(root)
    assert listing.class_names == ("cat", "dog")
    for split, name in (("train", train), ("val", val), ("test", test)):
        files = [f"{name}/cat/000.png", f"{name}/cat/001.png", *(f"{name}/dog/00{i}.png" for i in range(3))]
        assert listing.files(split) == ([os.path.normpath(file) for file in files] if name else [])
        assert listing.labels(split) == ([0, 0, 1, 1, 1] if name else None)


def test_extensions_count_in_any_case_and_other_and_hidden_files_and_folders_do_not(make_folder):
    root = make_folder(TWO, TWO)
    cat = root / "train/cat"
    for name in ("a.JPEG", "b.Jpg", "c.BMP", "d.WebP", "notes.txt", "._a.jpg", "jpg"):
        (cat / name).write_bytes(b"")
    (cat / "deeper").mkdir()
    (cat / "deeper/e.PNG").write_bytes(b"")
    for hidden in (".ipynb_checkpoints", ".Trash-1000/files", "deeper/.thumbnails"):
        (cat / hidden).mkdir(parents=True)
        (cat / hidden / "f.png").write_bytes(b"")
    found = {name.removeprefix("train/cat/") for name in list_images(root).files("train") if "cat" in name}
    assert found == {"000.png", "001.png", "a.JPEG", "b.Jpg", "c.BMP", "d.WebP", "deeper/e.PNG"}


def test_a_root_and_class_folders_that_are_links_are_followed(make_folder, tmp_path):
    root = make_folder(TWO, TWO)
    shutil.move(root / "train/cat", tmp_path / "elsewhere")
    (root / "train/cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(root)
    assert list_images(tmp_path / "link").files("train")[0] == "train/cat/000.png"
    shutil.move(root / "test", tmp_path / "others")
    (root / "test").symlink_to(tmp_path / "others")
    (root / "train/dog/more").symlink_to(root / "train/cat")
    assert len(list_images(tmp_path / "link").files("train")) == 5  # a link below a class is not followed
    found = linked_folders(tmp_path / "link")
    assert found == [tmp_path / "link/test", tmp_path / "link/train/cat"]


@pytest.mark.parametrize(
    ("remove", "message"),
    [("train", "raw/train: no such folder: put the training images there"), ("*", "raw: holds no class folders")],
)
def test_what_is_missing_is_an_input_error_that_names_it(make_folder, remove, message):
    root = make_folder(TWO | {"emu": 1}, TWO | {"emu": 1})
    folder = root / remove.removesuffix("*")
    shutil.rmtree(folder)
    if remove.endswith("*"):
        folder.mkdir()
    with pytest.raises(InputError, match=message):
        list_images(root)


def test_what_looks_like_images_but_is_not_read_is_named(make_folder):
    root = make_folder(TWO, TWO)
    assert list_images(root).unread() == []
    shutil.copytree(root / "test", root / "eval")
    for name in ("a.TIF", "b.tif", "c.gif", "d.txt", ".e.tif"):
        (root / "test/dog" / name).touch()
    assert list_images(root).unread() == ["5 images in eval/", "2 .tif", "1 .gif"]

import shutil

from gee_core.data.unread import unread

TWO = {"cat": 2, "dog": 3}


def test_what_looks_like_images_but_is_not_read_is_named(make_folder, tmp_path):
    root = make_folder(TWO, TWO)
    assert unread(root) == []
    shutil.copytree(root / "test", root / "eval")
    shutil.copytree(root / "test/cat", root / "train/.net")
    shutil.copytree(root / "test/dog", tmp_path / "elsewhere/inside")
    (root / "train/cat/more").symlink_to(tmp_path / "elsewhere")
    (root / "train/cat/circle").symlink_to(root)
    (root / "notes\x1b").mkdir()
    (root / "notes\x1b/0.png").touch()
    for name in ("a.TIF", "b.tif", "c.gif", "d.txt", ".e.tif"):
        (root / "test/dog" / name).touch()
    folders = ["2 images in train/.net/", "5 images in eval/", "1 image in 'notes\\x1b/'", "3 images in train/cat/more/"]
    assert unread(root) == [*folders, "2 .tif", "1 .gif"]
    shutil.rmtree(root / "test")
    assert unread(root / "train") == ["2 images in .net/", "3 images in cat/more/"]

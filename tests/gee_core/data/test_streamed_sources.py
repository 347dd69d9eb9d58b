"""Folders of images that stay where they are: what `load_source` gives for them."""

from gee_core.data.images import StreamedImages
from gee_core.data.sources import load_source
from tests.gee_core.data.test_sources import TWO, config


def test_a_streamed_folder_stays_where_it_is(make_folder):
    root = make_folder(TWO, TWO)
    source = load_source(config(root, stream=True, image_size=8))
    assert isinstance(source.train, StreamedImages)
    assert source.train.files[:2] == ["train/cat/000.png", "train/cat/001.png"]
    assert (source.train.in_channels, source.train.image_size, source.train.root) == (3, 8, root)


def test_the_contents_of_streamed_files_are_hashed_by_split_whatever_the_number_of_workers(make_folder, monkeypatch):
    root = make_folder({"cat": 2, "dog": 300}, TWO, extension="bmp")
    cfg = config(root, stream=True, image_size=8)
    first = load_source(cfg).contents
    monkeypatch.setenv("GEE_LOADER_WORKERS", "0")
    assert load_source(cfg).contents == first
    cat, dog = (root / f"train/{name}/001.bmp" for name in ("cat", "dog"))
    pair = cat.read_bytes(), dog.read_bytes()
    assert len(pair[0]) == len(pair[1])
    cat.write_bytes(pair[1])
    dog.write_bytes(pair[0])
    second = load_source(cfg).contents
    assert second[0] != first[0] and second[1] == first[1]
    assert load_source(config(root)).contents == ()

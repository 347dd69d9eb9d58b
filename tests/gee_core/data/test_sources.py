from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from gee_core.data.images import class_quotas, stratified_indices
from gee_core.data.sources import load_source, split
from gee_core.errors import InputError
from tests.gee_core.data.conftest import config

TWO = {"cat": 4, "dog": 8}
LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 17 + [4] * 3)[torch.randperm(100, generator=torch.manual_seed(0))]


def pixels(path, mode="RGB"):
    values = np.asarray(Image.open(path).convert(mode))
    return torch.from_numpy(values.reshape(*values.shape[:2], -1).copy()).permute(2, 0, 1)


def test_digits_are_scikit_learns_scaled_to_bytes_and_split_once():
    from sklearn.datasets import load_digits

    source = load_source(config(dataset="digits"))
    both = torch.cat([source.train.images, source.test.images])[:, 0].numpy()
    original = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, both)) == sorted(map(bytes, original))
    assert source.class_names == tuple("0123456789")
    assert len(source.test) == 359
    share = torch.bincount(torch.cat([source.train.labels, source.test.labels])) * 359 / 1797
    assert ((torch.bincount(source.test.labels) - share).abs() < 1).all()
    assert torch.equal(source.test.images, load_source(config(dataset="digits")).test.images)


def test_a_folder_of_grey_images_has_one_channel_and_one_colour_image_makes_it_three(make_folder):
    root = make_folder(TWO, TWO, channels=1)
    source = load_source(config(root))
    assert (source.class_names, source.source) == (("cat", "dog"), "a folder of images")
    assert source.train.labels.tolist() == [0] * 4 + [1] * 8
    grey = source.train.images
    files = [f"cat/{i:03}.png" for i in range(4)] + [f"dog/{i:03}.png" for i in range(8)]
    assert torch.equal(grey, torch.stack([pixels(root / "train" / name, "L") for name in files]))
    Image.new("RGB", (8, 8), "red").save(root / "test/dog/red.png")
    coloured = load_source(config(root)).train.images
    assert torch.equal(coloured, grey.expand(-1, 3, -1, -1))


def test_a_part_of_a_folder_is_stratified_and_the_rest_is_never_opened(make_folder):
    root = make_folder(TWO, {"cat": 2, "dog": 2})
    whole = load_source(config(root, max_train_images=6, holdout=0.4))
    assert torch.bincount(whole.train.labels).tolist() == [2, 4]
    kept = {image.numpy().tobytes() for image in whole.train.images}
    for path in root.glob("train/*/*.png"):
        if pixels(path).numpy().tobytes() not in kept:
            path.write_bytes(b"damaged")
    assert torch.equal(load_source(config(root, max_train_images=6, holdout=0.4)).train.images, whole.train.images)


def names(images):
    return set(images.files)


def test_without_test_images_a_stratified_share_of_all_becomes_them(make_folder):
    root = make_folder({"cat": 10, "dog": 20}, {})
    first, again = (load_source(config(root, stream=True, image_size=8, test_share=0.3)) for _ in range(2))
    assert torch.bincount(first.test.labels).tolist() == [3, 6]
    assert torch.bincount(first.train.labels).tolist() == [7, 14]
    assert not names(first.train) & names(first.test)
    assert len(first.holdout) == 4
    assert first.test.files == again.test.files


def test_val_beside_test_is_the_holdout_and_part_of_the_training_images(make_folder):
    root = make_folder(TWO, {"cat": 1, "dog": 1})
    for name, count in TWO.items():
        (root / "val" / name).mkdir(parents=True)
        for i in range(count // 2):
            Image.new("RGB", (8, 8), (9, 9, i)).save(root / "val" / name / f"{i}.png")
    whole = load_source(config(root))
    assert (len(whole.train), len(whole.test), whole.holdout.tolist()) == (18, 2, [*range(12, 18)])
    assert (whole.train.images[whole.holdout][:, 0] == 9).all() and whole.train.labels[12:].tolist() == [0, 0, 1, 1, 1, 1]
    part = load_source(config(root, max_train_images=9))
    assert torch.bincount(part.train.labels[:6]).tolist() == [2, 4]
    assert (part.holdout.tolist(), part.train.labels[part.holdout].tolist()) == ([6, 7, 8], [0, 1, 1])
    assert (part.train.images[part.holdout][:, 0] == 9).all()
    with pytest.raises(InputError, match=r"^prepare.max_train_images: 1 of 6 images cannot show all 2 classes"):
        load_source(config(root, max_train_images=3))


def test_images_of_other_sizes_are_an_input_error_unless_a_size_is_set(make_folder):
    root = make_folder(TWO, TWO)
    Image.new("RGB", (9, 8)).save(root / "train/dog/005.png")
    Image.new("RGB", (10, 8)).save(root / "test/dog/000.png")
    says = r"raw: its images have 3 sizes, from 8x8 \(train/cat/000\.png\) to 10x8 \(test/dog/000\.png\)"
    with pytest.raises(InputError, match=rf"{says}: set prepare\.image_size .*the median of their shorter sides is 8\)"):
        load_source(config(root))
    assert load_source(config(root, image_size=8)).train.images.shape == (12, 3, 8, 8)


def test_streamed_contents_are_hashed_by_split_with_any_number_of_workers(make_folder, monkeypatch):
    root, calls = make_folder({"cat": 2, "dog": 300}, TWO, extension="bmp"), []
    cfg = config(root, stream=True, image_size=8)
    first = load_source(cfg, lambda *progress: calls.append(progress)).contents
    assert calls == [(done, 314) for done in range(1, 315)]
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
    cat.write_bytes(pair[0][:-50])  # its header is whole
    for stream in (True, False):
        with pytest.raises(InputError, match=r"cat/001\.bmp: not a readable image"):
            load_source(config(root, stream=stream, image_size=8))


def test_a_rare_class_keeps_an_image_at_the_cost_of_the_most_favoured_one():
    assert class_quotas(torch.tensor([50, 30, 17, 0, 3]), 4).tolist() == [1, 1, 1, 0, 1]
    assert class_quotas(torch.tensor([97, 3]), 10).tolist() == [9, 1]


def test_quotas_are_those_of_the_largest_remainder_computed_with_fractions():
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        counts = torch.randint(20, 60, (6,), generator=generator)
        n = int(torch.randint(60, int(counts.sum()), (), generator=generator))
        exact = [Fraction(n * c, int(counts.sum())) for c in counts.tolist()]
        expected = [int(e) for e in exact]
        by_remainder = sorted(range(6), key=lambda k: (-(exact[k] - int(exact[k])), k))
        for k in by_remainder[: n - sum(expected)]:
            expected[k] += 1
        assert class_quotas(counts, n).tolist() == expected


def test_the_same_purpose_gives_the_same_part_and_another_one_another():
    part = stratified_indices(LABELS, 40, "a").tolist()
    assert part == stratified_indices(LABELS, 40, "a").tolist() == stratified_indices(LABELS, 40, "b", "a").tolist()
    assert part != stratified_indices(LABELS, 40, "b").tolist()


def test_the_holdout_and_the_rest_both_show_every_class():
    labels = torch.tensor([0] * 40 + [1] * 2 + [2] * 8)
    holdout = split(config(), "abc", labels, test=labels).holdout
    rest = torch.ones(50, dtype=torch.bool).index_fill(0, holdout, False)
    assert len(holdout) == 10
    assert labels[holdout].unique().tolist() == labels[rest].unique().tolist() == [0, 1, 2]


def test_a_holdout_that_takes_a_class_whole_is_an_input_error_that_names_it():
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    with pytest.raises(InputError, match=r"holdout = 0\.9: leaves class 'dog' no image to train on: add images"):
        split(config(holdout=0.9), ["cat", "dog"], labels, test=labels)
    with pytest.raises(InputError, match=r"^prepare.holdout: 1 of 6 images cannot show all 2 classes: ask for more"):
        split(config(), ["cat", "dog"], labels, test=labels)

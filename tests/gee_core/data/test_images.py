import numpy as np
import pytest
import torch

from gee_core.data.images import PackedImages, StreamedImages, mean_and_std
from gee_core.data.sources import load_source
from gee_core.errors import InputError
from gee_core.rank import ALONE, Rank
from tests.gee_core.data.conftest import config
from tests.gee_core.lively import generator


@pytest.fixture
def both(make_folder):
    """The same folder, packed and streamed; images have three sizes' worth of difference to the wanted one."""
    root = make_folder({"cat": 7, "dog": 6}, {"cat": 1, "dog": 1}, size=(11, 14))
    packed, streamed = (load_source(config(root, image_size=8, stream=stream)).train for stream in (False, True))
    assert isinstance(packed, PackedImages) and isinstance(streamed, StreamedImages)
    return packed, streamed


def equal(left, right):
    return all(
        a.dtype == b.dtype and torch.equal(a, b) and torch.equal(k, m) for (a, k), (b, m) in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(
    ("shuffled", "first", "rank", "sizes"),
    [
        (True, 0, ALONE, [4, 4, 4, 1]),
        (False, 1, ALONE, [4, 4, 1]),
        (True, 4, ALONE, []),
        (True, 0, Rank(0, 2), [2, 2, 2, 0]),  # of the last image, the second process has it
    ],
)
def test_streamed_batches_equal_packed_ones_and_all_follow_the_generator(
    both, monkeypatch, workers, shuffled, first, rank, sizes
):
    monkeypatch.setenv("GEE_LOADER_WORKERS", workers)
    left, right = (list(images.batches(4, generator(5) if shuffled else None, first, rank)) for images in both)
    assert [len(labels) for _, labels in left] == sizes
    assert equal(left, right)
    order = torch.randperm(13, generator=generator(5)) if shuffled else torch.arange(13)
    wanted = [batch[rank.share(len(batch))] for batch in order.split(4)][first:]
    assert equal(left, [(both[0].images[indices], both[0].labels[indices]) for indices in wanted])


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_damaged_file_ends_a_stream_with_its_name(both, monkeypatch, workers):
    monkeypatch.setenv("GEE_LOADER_WORKERS", workers)
    _, streamed = both
    (streamed.root / streamed.files[9]).write_bytes(b"text")
    with pytest.raises(InputError, match=rf"{streamed.files[9]}: not a readable image"):
        list(streamed.batches(4))


def test_a_subset_streams_what_it_packs(both):
    indices = torch.tensor([9, 2, 2, 12])
    packed, streamed = (images.subset(indices) for images in both)
    assert equal(packed.batches(4), streamed.batches(4))
    assert torch.equal(packed.images, both[0].images[indices])
    assert len(streamed) == 4


def test_mean_and_std_are_numpys_of_each_channel_but_for_the_std_of_a_constant_one(both):
    for images in both:
        values = both[0].images.numpy().astype(np.float64) / 255
        mean, std = mean_and_std(images)
        np.testing.assert_allclose(mean, values.mean((0, 2, 3)), rtol=1e-12)
        np.testing.assert_allclose(std, values.std((0, 2, 3)), rtol=1e-12)
    constant = PackedImages(torch.full((3, 1, 4, 4), 51, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    assert mean_and_std(constant) == (pytest.approx((0.2,)), (1.0,))

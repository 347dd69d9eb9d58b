import torch
import torch.nn.functional as F

from gee_core.data.augment import (
    ERASED_AREA,
    ERASED_ASPECT,
    Augment,
    Normalise,
    crop_and_flip,
    erased_pixels,
    rand_augment,
    resize_square,
    to_input,
)
from tests.gee_core.lively import generator

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
NORMALISE = Normalise(MEAN, STD)
ALL = Augment(crop_padding=2, flip=True, randaugment=9, erasing=0.5)


def pictures(n=20, channels=3, height=8, width=10):
    return torch.randint(0, 256, (n, channels, height, width), generator=generator(9), dtype=torch.uint8)


def test_without_augmentation_the_input_is_normalised():
    x = to_input(pictures(), NORMALISE)
    expected = (pictures().double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(x.double(), expected.double(), rtol=0, atol=2e-6)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_crop_and_flip_equals_a_loop_over_the_images():
    images, padding = pictures(), 3
    top, left = torch.randint(0, 7, (2, 20), generator=generator())
    mirrored = torch.rand(20, generator=generator()) < 0.5
    found = crop_and_flip(images, padding, top, left, mirrored)
    for i in range(20):
        padded = torch.zeros(3, 14, 16, dtype=torch.uint8)
        padded[:, 3:11, 3:13] = images[i]
        cut = padded[:, top[i] : top[i] + 8, left[i] : left[i] + 10]
        assert torch.equal(found[i], cut.flip(2) if mirrored[i] else cut)


def test_flips_are_half_of_the_images_and_only_mirror():
    images = pictures(2000)
    flipped = Augment(0, True, 0, 0.0)(images, generator())
    is_mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    is_same = (flipped == images).flatten(1).all(1)
    assert (is_mirrored ^ is_same).all()
    assert 911 <= is_mirrored.sum() <= 1089  # four standard deviations about 1000


def test_crops_reach_every_offset_and_no_other():
    image = pictures(1)
    crops = Augment(1, False, 0, 0.0)(image.expand(300, -1, -1, -1), generator())
    offsets = torch.tensor([[top, left] for top in range(3) for left in range(3)])
    expected = crop_and_flip(image.expand(9, -1, -1, -1), 1, *offsets.T, torch.zeros(9, dtype=torch.bool))
    assert {tuple(c.flatten().tolist()) for c in crops} == {tuple(c.flatten().tolist()) for c in expected}


def test_erased_regions_are_rectangles_of_the_stated_area_and_aspect():
    mask = erased_pixels(torch.zeros(500, 3, 32, 32), 1.0, generator())[:, 0]
    rows, columns = mask.any(2).sum(1), mask.any(1).sum(1)
    area = mask.flatten(1).sum(1)
    assert torch.equal(area, rows * columns)
    rounding = 0.5 * (rows + columns) / 1024 + 0.001
    assert (area / 1024 >= ERASED_AREA[0] - rounding).all()
    assert (area / 1024 <= ERASED_AREA[1] + rounding).all()
    assert ((rows + 0.5) / (columns - 0.5) >= ERASED_ASPECT[0]).all()
    assert ((rows - 0.5) / (columns + 0.5) <= ERASED_ASPECT[1]).all()
    assert mask.any(0).all()  # corners too


def test_erasing_sets_its_part_of_the_images_to_zero_after_normalisation():
    probability = 0.25
    images = torch.full((400, 3, 16, 16), 255, dtype=torch.uint8)
    x = to_input(images, NORMALISE, Augment(0, False, 0, probability), generator())
    plain = to_input(images, NORMALISE)
    assert ((x == 0) | (x == plain)).all()
    erased = (x == 0).flatten(1).any(1).float().mean()
    assert abs(erased - probability) <= 4 * (probability * (1 - probability) / 400) ** 0.5


def test_randaugment_treats_groups_differently_and_images_within_a_group_alike():
    image = pictures(1, height=16, width=16)
    found = rand_augment(image.expand(64, -1, -1, -1), 9, generator()).view(8, 8, -1)
    assert (found == found[:, :1]).all()
    assert len({tuple(group[0].tolist()) for group in found}) >= 6


def test_the_generator_alone_decides_the_augmentation():
    images, before = pictures(), torch.get_rng_state()
    first, again, other = (to_input(images, NORMALISE, ALL, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(images, pictures()) and torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_images_of_half_the_size_are_antialiased_and_none_are_changed_at_their_own():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert resize_square(x, None) is x and resize_square(x, 4) is x
    expected = F.interpolate(x, (2, 2), mode="bilinear", antialias=True)
    torch.testing.assert_close(resize_square(x, 2), expected)
    constant = resize_square(torch.full((2, 3, 9, 9), 0.3).contiguous(memory_format=torch.channels_last), 5)
    torch.testing.assert_close(constant, torch.full((2, 3, 5, 5), 0.3))
    assert constant.is_contiguous(memory_format=torch.channels_last)


def test_a_size_acts_behind_crops_and_in_front_of_erasing():
    images = torch.full((64, 1, 8, 8), 255, dtype=torch.uint8)
    x = to_input(images, Normalise((0.0,), (1.0,)), Augment(0, False, 0, 1.0), generator(), 4)
    assert x.shape[2:] == (4, 4)
    assert set(x.unique().tolist()) == {0.0, 1.0}  # a rectangle that was erased before would have grey edges

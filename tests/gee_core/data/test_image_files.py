import multiprocessing
import os
import signal

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as TF

from gee_core.data import pixels
from gee_core.data.image_files import Form, decode_image, each_file, header
from gee_core.errors import InputError

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def save(path, image):
    image.save(path)
    return path


@pytest.mark.parametrize("mode", ["LA", "1", "I;16"])
def test_grey_modes_are_grey_and_keep_their_values(tmp_path, mode):
    if mode == "I;16":
        image, expected = Image.fromarray(GREY.astype(np.uint16) * 257), GREY
    else:
        image = Image.fromarray(GREY).convert(mode)
        expected = np.asarray(image.convert("L"))
    path = save(tmp_path / "a.png", image)
    assert header(path).size == "8x8" and header(path).is_grey
    np.testing.assert_array_equal(decode_image(path, Form(8, 1))[0], expected)
    np.testing.assert_array_equal(decode_image(path, Form(8, 3)), np.stack([expected] * 3))


def test_transparent_and_palette_images_become_rgb(tmp_path):
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    with_alpha = colours.copy()
    with_alpha.putalpha(128)
    palette = colours.quantize(16)
    palette.info["transparency"] = bytes(range(16))
    expected = np.asarray(palette.convert("RGBA").convert("RGB")).transpose(2, 0, 1)
    path = tmp_path / "palette.png"
    palette.save(path, transparency=bytes(range(16)))
    assert not header(path).is_grey
    np.testing.assert_array_equal(decode_image(path, Form(8, 3)), expected)
    rgba = decode_image(save(tmp_path / "rgba.png", with_alpha), Form(8, 3))
    np.testing.assert_array_equal(rgba, np.asarray(colours).transpose(2, 0, 1))


def test_an_image_is_turned_as_its_exif_data_say(tmp_path):
    image = Image.effect_noise((12, 8), 90)
    for how in range(10):  # 0 and 9 mean nothing
        exif = Image.Exif()
        exif[0x0112] = how
        path = tmp_path / "a.jpg"
        image.save(path, exif=exif)
        with Image.open(path) as found:
            upright = ImageOps.exif_transpose(found) if 1 <= how <= 8 else found.copy()
        assert header(path).size == f"{upright.width}x{upright.height}" == ("8x12" if 5 <= how <= 8 else "12x8")
        upright.save(tmp_path / "upright.png", exif=Image.Exif())
        expected = decode_image(tmp_path / "upright.png", Form(8, 1))
        np.testing.assert_array_equal(decode_image(path, Form(8, 1)), expected)


@pytest.mark.parametrize(("width", "height"), [(40, 24), (24, 40), (6, 5)])
def test_resizing_is_torchvisions_of_the_shorter_side_and_a_centre_crop(tmp_path, width, height):
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    expected = TF.center_crop(TF.resize(image, [12], antialias=True), [12, 12])
    found = decode_image(save(tmp_path / "a.png", image), Form(12, 3))
    np.testing.assert_array_equal(found, np.asarray(expected).transpose(2, 0, 1))


@pytest.mark.parametrize("limit", [(pixels, "MAX_PIXELS", 63), (Image, "MAX_IMAGE_PIXELS", 20)], ids=["ours", "Pillow's"])
def test_a_decompression_bomb_is_an_input_error_that_names_it(tmp_path, monkeypatch, limit):
    path = save(tmp_path / "bomb.png", Image.fromarray(GREY))
    monkeypatch.setattr(*limit)
    with pytest.raises(InputError, match=r"bomb\.png: has more pixels than is safe"):
        decode_image(path, Form(8, 1))


def lose_worker(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def fill_shared_memory(*_):
    raise RuntimeError("unable to write to file </torch_1_2_3>: No space left on device (28)")


@pytest.mark.parametrize("what", [lose_worker, fill_shared_memory])
def test_a_lost_loader_worker_is_one_message_that_names_the_variable(tmp_path, what):
    before = set(multiprocessing.active_children())
    with pytest.raises(InputError) as caught:
        list(each_file(what, tmp_path, ["a.png"] * 65))
    assert "\n" not in str(caught.value)
    assert set(multiprocessing.active_children()) <= before
    assert "no space in shared memory" in str(caught.value) and "set GEE_LOADER_WORKERS=0 or fewer than 2" in str(caught.value)


def test_each_file_is_looked_at_in_order_and_a_problem_stops_none_of_the_others(tmp_path):
    names = [f"{i}.png" for i in range(70)]  # more than a worker takes at once
    for i, name in enumerate(names):
        save(tmp_path / name, Image.fromarray(GREY[: 1 + i % 8]))
    (tmp_path / "66.png").write_bytes(b"text")
    (tmp_path / "3.png").unlink()
    os.mkfifo(tmp_path / "3.png")
    looked = dict(each_file(header, tmp_path, names))
    assert list(looked) == names
    problems = {name: looked.pop(name) for name in ("3.png", "66.png")}
    assert all(isinstance(problem, InputError) for problem in problems.values())
    assert [seen.height for seen in looked.values()] == [1 + i % 8 for i in range(70) if i not in (3, 66)]
    assert str(problems["3.png"]) == f"{tmp_path / '3.png'}: not a readable image (not a file): replace or remove it"
    assert list(each_file(header, tmp_path, [])) == []

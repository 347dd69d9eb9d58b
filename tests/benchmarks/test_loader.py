import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg, read_file

from benchmarks.loader import decoders
from gee_core.data.image_files import Form, as_array, decode_image
from gee_core.data.images import StreamedImages


def photographs(folder, extension):
    for seed in range(2):
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(coarse).resize((48, 48), Image.Resampling.BICUBIC).save(folder / f"{seed}{extension}")
    return StreamedImages(as_array([f"0{extension}", f"1{extension}"]), torch.zeros(2, dtype=torch.long), folder, 48, 3)


def test_both_decoders_make_the_same_bytes_and_are_timed(tmp_path):
    images = photographs(tmp_path, ".jpg")
    for name in images.files:
        found = decode_jpeg(read_file(str(tmp_path / name)), ImageReadMode.RGB)
        assert np.array_equal(decode_image(tmp_path / name, Form(48, 3, resize=False)), found)
    found = decoders(images, rounds=1)
    assert found["decoder_images_per_second"] > 0
    assert found["decoder_over_torchvision"] > 0

"""No step of an epoch waits for the device: checked on the device `meta`, which stands for a GPU.

A tensor of `meta` has no values, so reading one raises, and every copy from the host to it can be seen. tests/cuda has the same
on a real GPU.
"""

import contextlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gee_core.data.augment import Augment, Normalise, rand_augment
from gee_core.data.image_files import as_array
from gee_core.data.images import PackedImages, StreamedImages
from gee_core.hardware import Compute
from gee_core.model.network import build_network
from gee_core.training.loop import train_epoch
from tests.gee_core.recipes import recipe

META = torch.device("meta")
N_STEPS = 4


class MakeTensor(TorchFunctionMode):
    """Notes tensors that are made of numbers on the device: a copy that waits."""

    def __init__(self, noted):
        super().__init__()
        self.noted = noted

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.tensor, torch.as_tensor) and (kwargs or {}).get("device") not in (None, torch.device("cpu")):
            self.noted.append(func.__name__)
        return func(*args, **(kwargs or {}))


class Copy(TorchDispatchMode):
    """Notes copies between the host and the device that wait."""

    def __init__(self, noted):
        super().__init__()
        self.noted = noted

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func._schema.name
        if name in ("aten::_to_copy", "aten::copy_"):
            devices = {t.device.type for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)}
            waits = not (kwargs.get("non_blocking") or (name == "aten::copy_" and len(args) > 2 and args[2]))
            if len(devices) > 1 and waits:
                self.noted.append(name)
        return result


@contextlib.contextmanager
def waiting():
    """The operations within that wait for the device, by name."""
    noted = []
    with MakeTensor(noted), Copy(noted):
        yield noted


def packed(tmp_path):
    return PackedImages(torch.zeros(4 * N_STEPS, 3, 8, 8, dtype=torch.uint8), torch.zeros(4 * N_STEPS, dtype=torch.int64))


def streamed(tmp_path):
    names = [f"{i}.png" for i in range(4 * N_STEPS)]
    for name in names:
        Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(tmp_path / name)
    return StreamedImages(as_array(names), torch.zeros(len(names), dtype=torch.int64), tmp_path, 8, 3)


@pytest.mark.parametrize("images", [packed, streamed])
@pytest.mark.parametrize("loss", ["ce", "tet"])
def test_no_step_waits_for_the_device(images, loss, tmp_path, monkeypatch):
    monkeypatch.setenv("GEE_LOADER_WORKERS", "0")
    monkeypatch.setattr(Compute, "autocast", lambda self: contextlib.nullcontext())  # there is none for meta
    net = build_network("resnet18", 3, 3, 8, 4, 1 / 32, 0, T=2).to(META)
    optimizer = torch.optim.SGD([{"params": list(net.parameters()), "lr_factor": 1.0}], lr=0.1, foreach=False)
    how = recipe(
        Augment(crop_padding=1, flip=True, randaugment=9, erasing=0.5),
        Normalise((0.5,) * 3, (0.3,) * 3),
        Compute(META, torch.float32),
        epochs=1,
        label_smoothing=0.1,
        loss=loss,
        tet_lambda=0.1,
        sizes=[6],
    )
    found = []
    with waiting() as noted:

        def on_step(mid_epoch):
            found.append(list(noted))
            noted.clear()

        with pytest.raises(NotImplementedError, match="meta tensor"):  # after the last step, when the sums are read
            train_epoch(net, optimizer, images(tmp_path).to(META), how, 0, None, on_step)
    assert found[1:] == [[]] * (N_STEPS - 2)  # before the first step, sums and the order of the images are copied


def test_randaugment_does_not_wait_for_the_device():
    with waiting() as noted:
        rand_augment(torch.zeros(256, 3, 8, 8, dtype=torch.uint8, device=META), 9, torch.Generator().manual_seed(0))
    assert noted == []

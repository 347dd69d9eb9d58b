"""Examples that evaluate writes for the report: answers on twelve test images, the spikes of an image, and genes as maps.

Shapes: T steps, B batch, C channels, H W space, N neurons of a layer, K classes.
"""

import base64
import os
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gee_core.compute import Compute, cpu_name
from gee_core.data.prepared import Prepared
from gee_core.evaluation.energy import record
from gee_core.genome.encoding import encoding, genome_of
from gee_core.model.base import SpikingNetwork
from gee_core.training.loop import for_inference
from pipelines.inputs.loading import evenly, png
from pipelines.inputs.measured import Answer, Shown

IMAGES, MISTAKES = 12, 6
"""How many test images are shown, and at most how many mistakes are among them."""
NEURONS, SIDE, PIXELS, FRAMES = 24, 64, 96, 1024
"""At most: neurons of a layer, rows and columns of a map, and the sides of a picture and of a recording's frames in pixels."""


@torch.no_grad()
def show(net: SpikingNetwork, data: Prepared, answers: Sequence[Mapping[str, str]], compute: Compute) -> Shown:
    """Answers of ``net`` on test images, evenly spaced among its mistakes and among the rest, its spikes and its maps.

    ``answers`` has the ``actual`` and the ``predicted`` class of every test image.
    """
    right = torch.tensor([row["actual"] == row["predicted"] for row in answers])
    mistakes, others = (are.nonzero().flatten() for are in (~right, right))
    mistakes = mistakes[evenly(len(mistakes), MISTAKES)]
    chosen = torch.cat([mistakes, others[evenly(len(others), IMAGES - len(mistakes))]])
    images, _ = next(data.test.subset(chosen).to(compute.device).batches(len(chosen)))
    x, plain, shown = data.meta.normalise(images), for_inference(net), list[Answer]()
    with compute.autocast():
        p_B = plain(x).float().mean(0).softmax(1).amax(1)
        spikes = _spikes(plain, x[..., -1:, :, :, :])
    for image, i, p in zip(images.cpu(), chosen.tolist(), p_B.tolist(), strict=True):
        picture = _picture(image.sum(0, keepdim=True) if data.meta.events else image, PIXELS)
        shown.append(Answer(picture=picture, **answers[i], probability=round(p, 4)))
    frames = _picture(images[-1].cpu(), FRAMES) if data.meta.events else None
    gpu = f", {torch.cuda.get_device_name(compute.device)}" if compute.device.type == "cuda" else ""
    machine = f"{cpu_name()}, {os.cpu_count()} cores{gpu}; torch {torch.__version__}; {compute.number_format}"
    return Shown(answers=shown, frames=frames, spikes=spikes, maps=_maps(net), machine=machine)


def _picture(image: Tensor, side: int) -> str:
    return base64.b64encode(png(image, side)).decode()


def _spikes(net: nn.Module, x: Tensor) -> dict[str, list[str]]:
    """For each layer, the spikes of some of the neurons after it, evenly spaced, on one image ``x``: a digit per step."""
    digits = {}
    for neurons in record(net, x).values():
        spikes_TN = (neurons.spikes != 0).flatten(1).int().cpu()
        some = evenly(spikes_TN.shape[1], NEURONS)
        digits[neurons.layer] = ["".join(map(str, spikes_T)) for spikes_T in spikes_TN[:, some].T.tolist()]
    return digits


def _maps(net: SpikingNetwork) -> dict[str, list[list[float]]]:
    """O, X and W of the middle of the encoded convolutions at the kernel's middle. A plain network has W alone."""
    chain, genome = net.conv_chain(), genome_of(net)
    number = len(chain) // 2
    conv = chain[number]
    rows, columns = (size // 2 for size in conv.weight.shape[2:])
    maps = {f"W_{number}": conv.weight[:, :, rows, columns]}
    if genome is not None:
        maps = {"O": genome.O, f"X_{number}": encoding(conv)[rows * conv.weight.shape[3] + columns]} | maps
    cut = {name: values[:SIDE, :SIDE].float().cpu() for name, values in maps.items()}
    return {name: [[float(f"{value:.3g}") for value in row] for row in values.tolist()] for name, values in cut.items()}

"""Stage evaluate: measures accuracy, spikes and energy of the trained network on the test images, and shows examples.

Shapes: T steps, B batch, C channels, H W space, N neurons of a layer, K classes.
"""

import base64
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gee_core.compute import Compute, cpu_name
from gee_core.config import Params
from gee_core.data.prepared import Prepared
from gee_core.evaluation.early_exit import find_exits
from gee_core.evaluation.energy import measure_energy, record
from gee_core.genome.encoding import decode, encoding, genome_of
from gee_core.model.base import SpikingNetwork, with_steps
from gee_core.model.network import count_parameters
from gee_core.storage.atomic_files import write_atomically, write_json
from gee_core.storage.csv_rows import csv_text
from gee_core.training.loop import for_inference, outputs
from gee_core.training.processes import summed, whole_batches
from pipelines.inputs.loading import evenly, png
from pipelines.inputs.measured import Answer, Evaluation, Shown
from pipelines.measuring import measuring
from pipelines.project.paths import REPORTS

OUT = REPORTS / "evaluate"

EXIT = ("confidence", "accuracy", "mean_steps", "energy_mj")
"""The columns of exit.csv: a confidence of early exit, and what it gives on the test images."""
IMAGES, MISTAKES = 12, 6
"""How many test images are shown, and at most how many mistakes are among them."""
NEURONS, SIDE, PIXELS, FRAMES = 24, 64, 96, 1024
"""At most: neurons of a layer, rows and columns of a map, and the sides of a picture and of a recording's frames in pixels."""


def run(
    params: Params,
    net: SpikingNetwork,
    data: Prepared,
    compute: Compute,
    on_images: Callable[[int], None] = lambda n: None,
) -> tuple[Evaluation, list[dict[str, float | str | None]], list[dict[str, str]]]:
    """Measure ``net``. Returns its numbers, a row per layer, and the actual and the predicted class of every test image.

    ``on_images`` is called with the number of images of each batch before it is measured. ``compute`` has the part of this
    process where several measure together.
    """
    cfg, meta = params.evaluate, data.meta
    all_logits: list[Tensor] = []
    all_labels: list[Tensor] = []

    def inputs() -> Iterator[Tensor]:
        for images, of_images in data.test.to(compute.device).batches(cfg.batch_size, rank=compute.rank):
            all_labels.append(of_images.cpu())
            on_images(len(of_images) * compute.rank.of)
            if len(images):
                yield meta.normalise(images)
            else:
                all_logits.append(torch.zeros(0, meta.num_classes))

    def on_output(o_TBK: Tensor) -> None:
        all_logits.append(o_TBK.float().mean(0).cpu())

    activity = measure_energy(net, inputs(), compute.dtype, on_output, rank=compute.rank)
    logits, labels = whole_batches(all_logits, compute.rank), whole_batches(all_labels, compute.rank)
    predicted = logits.argmax(1)
    numbers = Evaluation(
        test_accuracy=(predicted == labels).double().mean().item(),
        test_loss=F.cross_entropy(logits, labels).item(),
        parameters=count_parameters(net),
        plain_parameters=count_parameters(decode(net)),
        energy_mj=activity.energy_mj(cfg.e_mac, cfg.e_ac),
        energy_with_decoding_mj=activity.energy_with_decoding_mj(cfg.e_mac, cfg.e_ac),
        energy_of_sums_mj=activity.energy_of_sums_mj(cfg.e_ac),
        spikes_per_image=activity.spikes_per_image,
        firing_rate=activity.firing_rate,
        footprint=activity.footprint,
        footprint_decoded=activity.footprint_decoded,
        connection_sparsity=activity.connection_sparsity,
        activation_sparsity=activity.activation_sparsity,
        effective_macs=activity.effective_macs,
        effective_acs=activity.effective_acs,
        dense_synops=activity.dense,
    )
    has_counts = meta.events is not None or params.network.neuron == "ilif"
    layers = [layer.row(cfg.e_mac, cfg.e_ac) | ({"counts": layer.counts} if has_counts else {}) for layer in activity.layers]
    pairs = zip(labels.tolist(), predicted.tolist(), strict=True)
    return numbers, layers, [{"actual": meta.class_names[k], "predicted": meta.class_names[guess]} for k, guess in pairs]


def run_exits(params: Params, net: SpikingNetwork, data: Prepared, compute: Compute) -> list[dict[str, float]]:
    """Measure ``net`` with early exit. Returns a row per confidence of `evaluate.exit`. ``compute``: as of ``run``.

    The energy is that of the images which leave at each step, on as many steps.
    """
    cfg, normalise, rows = params.evaluate, data.meta.normalise, list[dict[str, float]]()
    if cfg.exit is None:
        return rows
    test, correct = data.test.to(compute.device), dict.fromkeys(cfg.exit, 0)
    steps_of: dict[float, list[Tensor]] = {confidence: [] for confidence in cfg.exit}
    for o_TBK, labels in outputs(for_inference(net), test, cfg.batch_size, normalise, compute):
        for confidence in cfg.exit:
            logits, steps_B = find_exits(o_TBK, confidence)
            steps_of[confidence].append(steps_B)
            correct[confidence] += int((logits.argmax(1) == labels).sum())

    def leaving(confidence: float, t: int) -> Iterator[Tensor]:
        batches = (images for images, _ in test.batches(cfg.batch_size, rank=compute.rank) if len(images))
        for images, steps_B in zip(batches, steps_of[confidence], strict=True):
            if (chosen_B := steps_B == t).any():
                x = normalise(images[chosen_B])
                yield x[:t] if x.ndim == 5 else x

    for confidence in cfg.exit:
        leave = [sum(int((steps_B == t).sum()) for steps_B in steps_of[confidence]) for t in range(1, net.T + 1)]
        counts = torch.tensor([*leave, correct[confidence]], dtype=torch.float64, device=compute.device)
        *shares, accuracy = (summed(counts, compute.rank) / len(test)).tolist()
        energy_mj = 0.0
        for t, share in enumerate(shares, 1):
            if share:
                with with_steps(net, t):
                    activity = measure_energy(net, leaving(confidence, t), compute.dtype, rank=compute.rank)
                energy_mj += share * activity.energy_mj(cfg.e_mac, cfg.e_ac)
        mean_steps = sum(t * share for t, share in enumerate(shares, 1))
        rows.append(dict(zip(EXIT, (confidence, accuracy, mean_steps, energy_mj), strict=True)))
    return rows


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


def _spikes(net: nn.Module, x: Tensor) -> dict[str, list[list[int]]]:
    """For each layer, what some of the neurons after it, evenly spaced, fire at every step on one image ``x``."""
    fired = {}
    for neurons in record(net, x).values():
        spikes_TN = neurons.spikes.flatten(1).int().cpu()
        some = evenly(spikes_TN.shape[1], NEURONS)
        fired[neurons.layer] = spikes_TN[:, some].T.tolist()
    return fired


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


def main() -> None:
    with measuring("evaluate") as (s, net, data, compute):
        with s.progress("evaluate", len(data.test)) as steps:
            numbers, layers, images = run(s.params, net, data, compute, steps)
            left = run_exits(s.params, net, data, compute)
        if s.follows:
            return
        metrics = numbers.model_dump()
        write_json(OUT / "shown.json", show(net, data, images, compute).model_dump())
        write_json(OUT / "metrics.json", metrics)
        write_atomically(OUT / "layers.csv", csv_text(layers))
        write_atomically(OUT / "confusion.csv", csv_text(images))
        write_atomically(OUT / "exit.csv", csv_text(left, EXIT))
        at_exits = {f"exit/{row['confidence']:g}/{name}": row[name] for row in left for name in ("accuracy", "mean_steps")}
        s.run.note(metrics=metrics | at_exits)
        s.run.artifact(OUT / "layers.csv")


if __name__ == "__main__":
    main()

"""Whether streaming images from disk slows down training: a few steps of ResNet-34 (or another network) on a folder.

    python -m benchmarks.loader --data FOLDER [--json] [--size 224] [--width 1.0] [--steps 12] [--batch 16]

FOLDER has train/ and test/ (or val/) with one folder per class. Printed:
    loader_over_step    images/s of the loader alone over images/s of training steps alone; above 1, the loader is not the
                        bottleneck
    waiting             share of an epoch's time in which training steps wait for images
    growth_mib          growth of resident memory, of this process and its decoding workers, in the second half of the steps
    decoder_images_per_second   images that one core decodes, without a loader
    decoder_over_torchvision    its time per JPEG over that of torchvision.io.decode_jpeg, which does not resize; null: no JPEG
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F
from torchvision.io import ImageReadMode, decode_jpeg, read_file

from benchmarks.arguments import positive, positive_int
from benchmarks.decoding import medians
from gee_core.config import PrepareConfig
from gee_core.data.image_files import Form, decode_image
from gee_core.data.images import StreamedImages
from gee_core.data.meta import Meta
from gee_core.data.prepared import load_prepared
from gee_core.hardware import Compute
from gee_core.memory import keep_freed_memory
from gee_core.model.network import build_network
from gee_core.seeding import torch_generator
from gee_core.training.optimizers import make_optimizer
from gee_core.zoo import NETWORKS
from pipelines import prepare


def prepared(data: Path, size: int, folder: Path) -> tuple[Meta, StreamedImages]:
    """The training images, streamed at ``size`` pixels."""
    cfg = PrepareConfig(
        dataset="folder", path=str(data), image_size=size, stream=True, holdout=0.1, split_seed=0, name=None, test_share=0.2,
        max_train_images=None, max_test_images=None, events=None,
    )  # fmt: skip
    prepare.run(cfg, folder)
    found = load_prepared(folder)
    assert isinstance(found.train, StreamedImages)
    return found.meta, found.train


def resident_mib() -> float:
    """Of this process and its children."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(process.memory_info().rss for process in processes) / 2**20


def decoders(images: StreamedImages, n_files: int = 256, rounds: int = 5) -> dict:
    """This project's decoder (Pillow) beside torchvision's, on the first ``n_files`` JPEG files, in this process."""
    files = [images.root / name for name in images.files if name.lower().endswith((".jpg", ".jpeg"))][:n_files]
    if not files:
        return {"decoder_images_per_second": None, "decoder_over_torchvision": None}
    form = Form(images.image_size, images.in_channels, resize=True)
    mode = ImageReadMode.RGB if images.in_channels == 3 else ImageReadMode.GRAY
    steps: dict[str, Callable[[], object]] = {
        "ours": lambda: [decode_image(path, form) for path in files],
        "torchvision": lambda: [decode_jpeg(read_file(str(path)), mode) for path in files],
    }
    seconds = medians(steps, rounds)
    return {
        "decoder_images_per_second": round(len(files) / seconds["ours"]),
        "decoder_over_torchvision": round(seconds["ours"] / seconds["torchvision"], 2),
    }


def measure(meta: Meta, images: StreamedImages, arguments: argparse.Namespace) -> dict:
    """Loader alone, steps alone, both together."""
    compute = Compute.of("auto")
    device = compute.device
    net = build_network(
        arguments.network, meta.num_classes, meta.in_channels, meta.image_size, arguments.genes, arguments.width
    )
    net = net.to(device).train()
    optimizer = make_optimizer("adamw", net, 0.01)
    batch = arguments.batch

    def batches(name: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return images.to(device).batches(batch, torch_generator(0, name))

    def step(x: torch.Tensor, labels: torch.Tensor) -> None:
        with compute.autocast():
            logits = net(meta.normalise(x)).mean(0).float()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    source = batches("loader")
    first = next(source)
    start = time.perf_counter()
    loaded = sum(len(labels) for _, (_, labels) in zip(range(4 * arguments.steps), source, strict=False))
    loader = loaded / (time.perf_counter() - start)
    del source
    step(*first)  # compiled by now
    alone = []
    for _ in range(3):
        start = time.perf_counter()
        step(*first)
        alone.append(time.perf_counter() - start)
    waits, memory = [], []
    start = last = time.perf_counter()
    for _, (x, labels) in zip(range(arguments.steps), batches("steps"), strict=False):
        waits.append(time.perf_counter() - last)
        step(x, labels)
        memory.append(resident_mib())
        last = time.perf_counter()
    total = last - start - waits[0]  # the first batch has to wait for the workers to start
    steps = batch / statistics.median(alone)
    return {
        "images": len(images),
        "loader_images_per_second": round(loader, 1),
        "step_images_per_second": round(steps, 2),
        "loader_over_step": round(loader / steps, 2),
        "waiting": round(sum(waits[1:]) / total, 4),
        "growth_mib": round(memory[-1] - memory[len(memory) // 2]),
        "resident_mib": round(memory[-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of images")
    parser.add_argument("--network", choices=NETWORKS, default="resnet34")
    parser.add_argument("--genes", type=positive_int, default=146)
    parser.add_argument("--width", type=positive, default=1.0)
    parser.add_argument("--size", type=positive_int, default=224)
    parser.add_argument("--batch", type=positive_int, default=16)
    parser.add_argument("--steps", type=positive_int, default=12)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        meta, images = prepared(arguments.data, arguments.size, Path(folder) / "prepared")
        result = {"torch": torch.__version__, "cores": os.cpu_count()} | decoders(images) | measure(meta, images, arguments)
    for key, value in result.items():
        print(f"{key:28} {value}")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()

"""The number format of the real-valued stream of pre-activation blocks: bf16, as the convolutions put it out, against float32.

    python -m benchmarks.stream_format [--json] [--data FOLDER] [--steps 300] [--seeds 2] [--size 16]

ResNet-19 x 0.25 under bf16 autocast, the same weights and images for both formats, which differ in nothing but the stream: sums
are written, and read by batch norm, in one or the other. FOLDER holds train/ and test/ with a folder per class; without it,
images are noise about one random pattern per class. Printed for each format and seed: the mean loss of the last tenth of the
steps, and the accuracy on 2,000 other images; then float32 over bf16: time of a step (median of interleaved rounds, which
another program on the machine does disturb) and bytes kept for the backward pass (which it does not).
"""

import argparse
import json
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.arguments import positive_int
from benchmarks.decoding import medians
from gee_core.data.augment import Augment, Normalise, to_input
from gee_core.data.folders import FileList, list_images
from gee_core.data.images import PackedImages, StreamedImages
from gee_core.memory import keep_freed_memory
from gee_core.model.layers import Shortcut
from gee_core.model.network import SpikingNetwork, build_network

FORMATS = ("bf16", "float32")
BATCH = 64
TEST_IMAGES = 2_000
NORMALISE = Normalise((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
AUGMENT = Augment(crop_padding=2, flip=True, randaugment=0, erasing=0.0)


def some_images(part: FileList, root: Path, n: int, size: int) -> PackedImages:
    """At most ``n`` images of ``part``, drawn at random, in memory."""
    order = torch.randperm(len(part.files), generator=torch.Generator().manual_seed(0))[:n]
    files = StreamedImages(part.files, torch.tensor(part.labels), root, size, 3).subset(order)
    images, labels = zip(*files.batches(256), strict=True)
    return PackedImages(torch.cat(images), torch.cat(labels))


def synthetic(n: int, size: int, seed: int) -> PackedImages:
    """Ten random patterns in noise four times as strong."""
    patterns = torch.randn(10, 3, size, size, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (n,), generator=generator)
    x = patterns[labels] + 4 * torch.randn(n, 3, size, size, generator=generator)
    return PackedImages((x * 16 + 128).clamp(0, 255).to(torch.uint8), labels)


def network(number_format: str, num_classes: int, size: int, seed: int) -> SpikingNetwork:
    """The network with its stream in ``number_format``: what enters the stream decides in which type the sums are written."""
    net = build_network("resnet19", num_classes, 3, size, None, 0.25, seed, "pre").train()
    if number_format == "float32":
        shortcuts = [module.conv for module in net.modules() if isinstance(module, Shortcut)]
        for entrance in (net.get_submodule("stem.conv"), *shortcuts):
            entrance.register_forward_hook(lambda conv, args, y: y.float())
    return net


def loss_of(net: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(x).mean(0).float()
    return F.cross_entropy(logits, labels)


def step(net: nn.Module, x: Tensor, labels: Tensor) -> None:
    loss_of(net, x, labels).backward()


def train(number_format: str, train_images: PackedImages, test: PackedImages, steps: int, seed: int) -> tuple[float, float]:
    """(mean loss of the last tenth of the steps, accuracy on ``test``) after training with AdamW at a one-cycle rate."""
    net = network(number_format, int(test.labels.max()) + 1, test.image_size, seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    while len(losses) < steps:
        for images, labels in train_images.batches(BATCH, generator):
            loss = loss_of(net, to_input(images, NORMALISE, AUGMENT, generator), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            losses.append(loss.item())
            if len(losses) == steps:
                break
    net.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        right = [(net(NORMALISE(x)).float().mean(0).argmax(1) == labels).sum().item() for x, labels in test.batches(250)]
    last = losses[-max(steps // 10, 1) :]
    return sum(last) / len(last), sum(right) / len(test)


def kept_bytes(net: nn.Module, x: Tensor, labels: Tensor) -> int:
    """Bytes of all tensors that one step keeps for its backward pass, each storage counted once."""
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss = loss_of(net, x, labels)
    loss.backward()
    return sum(kept.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of images; default: synthetic ones")
    parser.add_argument("--steps", type=positive_int, default=300)
    parser.add_argument("--seeds", type=positive_int, default=2)
    parser.add_argument("--size", type=positive_int, default=16, help="pixels")
    parser.add_argument("--rounds", type=positive_int, default=9)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    keep_freed_memory()
    n, size = arguments.steps * BATCH, arguments.size
    if arguments.data:
        listing = list_images(arguments.data)
        if listing.test is None:
            parser.error(f"--data {arguments.data}: has no test images: put them into test/, a folder per class")
        images, test = (some_images(p, arguments.data, m, size) for p, m in ((listing.train, n), (listing.test, TEST_IMAGES)))
    else:
        images, test = synthetic(n, size, seed=1), synthetic(TEST_IMAGES, size, seed=2)
    results: dict[str, object] = {}
    for seed in range(arguments.seeds):
        for number_format in FORMATS:
            loss, accuracy = train(number_format, images, test, arguments.steps, seed)
            results[f"{number_format}, seed {seed}"] = {"loss": round(loss, 4), "test_accuracy": round(accuracy, 4)}
            print(f"{number_format:8} seed {seed}: loss {loss:.4f}, test accuracy {100 * accuracy:.2f} %", flush=True)
    x, labels = NORMALISE(images.images[:BATCH]), images.labels[:BATCH]
    nets = {number_format: network(number_format, 10, size, 0) for number_format in FORMATS}
    seconds = medians({f: partial(step, net, x, labels) for f, net in nets.items()}, arguments.rounds)
    kept = {number_format: kept_bytes(net, x, labels) for number_format, net in nets.items()}
    for name, values in (("time", seconds), ("memory", kept)):
        results[f"{name}, float32 over bf16"] = round(values["float32"] / values["bf16"], 3)
        print(f"{name}, float32 over bf16: {values['float32'] / values['bf16']:.3f}")
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()

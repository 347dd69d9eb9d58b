"""Files of genes beside files of weights: bytes, time until the first answer, time of inference.

    python -m benchmarks.gene_file [--json] [--network cifarnet] [--width 0.25] [--genes 28] [--size 32] [--rounds 15]

An untrained network whose neurons fire; all steps are timed in turn, in one process, on one thread unless --threads says
more. Printed for each format of the genes, as ratios: start of an ONNX Runtime session and inference with genes.onnx over those
with network.onnx; `load` of genes.safetensors and inference by torch, weights decoded, over those of the checkpoint; bytes of
the two files over the unencoded network's fp32 ONNX.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnxruntime
import torch
from torch import nn

from benchmarks.arguments import positive, positive_int
from benchmarks.decoding import medians
from gee_core.checkpoint import load, save
from gee_core.export.onnx_genes import with_genes
from gee_core.export.to_onnx import to_onnx
from gee_core.gene_file import GENE_FORMATS, save_genes
from gee_core.model.network import SpikingNetwork, build_network
from gee_core.training.loop import for_inference
from gee_core.zoo import NETWORKS

OPSET = 18
WEIGHTS = "weights"


def firing(name: str, n_genes: int | None, width: float, size: int) -> SpikingNetwork:
    """A network whose batch norms are set on noise, so that its neurons fire."""
    net = build_network(name, 10, 3, size, n_genes, width)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.constant_(module.bias, 0.5)
    with torch.no_grad():
        net(torch.randn(32, 3, size, size, generator=torch.Generator().manual_seed(0)))
    return net.eval()


def session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def in_turn(kind: str, steps: dict[str, Callable[[], object]]) -> dict[tuple[str, str | None], Callable[[], object]]:
    """``steps`` by kind and name, behind one that is not reported: the first after steps of another kind finds cold caches."""
    return {(kind, key): steps[key or WEIGHTS] for key in (None, *steps)}


def measure(
    folder: Path, name: str, n_genes: int, width: float, size: int, batch: int, rounds: int, threads: int
) -> list[dict]:
    """One row per format of the genes."""
    net = firing(name, n_genes, width, size)
    save(folder / f"{WEIGHTS}.safetensors", net)
    models = {WEIGHTS: to_onnx(net, 3, size, OPSET)}
    unencoded = len(to_onnx(firing(name, None, width, size), 3, size, OPSET))
    for format in GENE_FORMATS:
        save_genes(folder / f"{format}.safetensors", net, format)
        rounded = load(folder / f"{format}.safetensors").eval()
        models[format] = with_genes(to_onnx(rounded, 3, size, OPSET), rounded, format)

    def loaded(key: str) -> nn.Module:
        return for_inference(load(folder / f"{key}.safetensors"))

    x = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))
    sessions = {key: session(model, threads) for key, model in models.items()}
    nets = {key: loaded(key) for key in models}
    images = {"images": x.numpy()}
    steps = in_turn("start", {key: partial(session, model, threads) for key, model in models.items()})
    steps |= in_turn("run", {key: partial(s.run, None, images) for key, s in sessions.items()})
    steps |= in_turn("load", {key: partial(loaded, key) for key in models})
    steps |= in_turn("torch", {key: partial(decoded, x) for key, decoded in nets.items()})
    with torch.no_grad():
        seconds = medians(steps, rounds)
    return [
        {
            "format": format,
            "session_start": round(seconds["start", format] / seconds["start", WEIGHTS], 3),
            "onnx_inference": round(seconds["run", format] / seconds["run", WEIGHTS], 3),
            "load": round(seconds["load", format] / seconds["load", WEIGHTS], 3),
            "torch_inference": round(seconds["torch", format] / seconds["torch", WEIGHTS], 3),
            "genes_bytes": round((folder / f"{format}.safetensors").stat().st_size / unencoded, 4),
            "genes_onnx_bytes": round(len(models[format]) / unencoded, 4),
        }
        for format in GENE_FORMATS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="cifarnet")
    parser.add_argument("--width", type=positive, default=0.25)
    parser.add_argument("--genes", type=positive_int, default=28)
    parser.add_argument("--size", type=positive_int, default=32, help="side of the images, in pixels")
    parser.add_argument("--batch", type=positive_int, default=32)
    parser.add_argument("--rounds", type=positive_int, default=15)
    parser.add_argument("--threads", type=positive_int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        sizes = (given.network, given.genes, given.width, given.size, given.batch, given.rounds, given.threads)
        rows = measure(Path(folder), *sizes)
    print("  ".join(f"{name:>16}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{value:>16}" for value in row.values()))
    if given.json:
        about = vars(given) | {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
        print(json.dumps({name: value for name, value in about.items() if name != "json"} | {"rows": rows}))


if __name__ == "__main__":
    main()

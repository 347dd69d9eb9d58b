"""Encoding a trained plain network and fine-tuning it, against training from the wiring with equal genes and image passes.

    python -m benchmarks.compression [--epochs 10] [--fine-tune 10] [--seeds 3] [--genes 28] [--evolve] [--json]

Handwritten digits, the network of presets/digits.yaml. For each seed: the plain network after `--epochs`; its encoding before
and after `--fine-tune` more epochs; the genetic network from its analytic wiring (with `--evolve` also from an evolved one)
after the same total of epochs. Printed: test accuracy, and mean relative error of the encoded layers' weights.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.arguments import positive_int
from gee_core.checkpoint import save
from gee_core.config import Params
from gee_core.data.prepared import Prepared, load_prepared
from gee_core.hardware import Compute
from gee_core.model.network import SpikingNetwork, count_parameters
from gee_core.training.loop import accuracy_and_loss, for_inference
from pipelines import evolve, prepare, train
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.inputs.start_network import encoded_network
from pipelines.project.params import load_params

PRESET = Path(__file__).resolve().parent.parent / "presets/digits.yaml"


def changed(params: Params, **sections: dict) -> Params:
    values = params.model_dump()
    for name, keys in sections.items():
        values[name] |= keys
    return Params.model_validate(values)


def accuracy(net: SpikingNetwork, data: Prepared, params: Params) -> float:
    compute = Compute.of(params.base.device, params.base.precision)
    plain, test = for_inference(net.to(compute.device)), data.test.to(compute.device)
    return accuracy_and_loss(plain, test, 256, data.meta.normalise, compute)[0]


def trained(params: Params, genotype: GenotypeFile, data: Prepared, folder: Path) -> SpikingNetwork:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        return train.run(params, genotype, data, Path(scratch)).net


def genotype_of(params: Params, prepared: Path, folder: Path, variant: str) -> GenotypeFile:
    params = changed(params, evolve={"variant": variant})
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        return evolve.run(params, prepared, Path(scratch)).genotype


def compare(params: Params, data: Prepared, prepared: Path, folder: Path, epochs: int, more: int, evolved: bool) -> Iterator:
    """Yield (contender, parameters, test accuracy, mean error or None) of one seed."""
    plain_params = changed(params, network={"n_genes": None}, evolve={"variant": "analytic"}, train={"epochs": epochs})
    plain = trained(plain_params, evolve.genotype_file(plain_params, None), data, folder)
    yield f"plain, {epochs} epochs", count_parameters(plain), accuracy(plain, data, params), None
    checkpoint = folder / "plain.safetensors"
    save(checkpoint, plain)
    tuned_params = changed(params, train={"epochs": more, "warmup_epochs": 0, "init_from": str(checkpoint)})
    net, errors = encoded_network(tuned_params, data.meta)
    error = sum(errors.values()) / len(errors)
    yield "encoded", count_parameters(net), accuracy(net, data, params), error
    any_wiring = genotype_of(params, prepared, folder, "analytic")
    net = trained(tuned_params, any_wiring, data, folder)
    yield f"encoded, {more} epochs of fine-tuning", count_parameters(net), accuracy(net, data, params), None
    whole = changed(params, train={"epochs": epochs + more})
    net = trained(whole, any_wiring, data, folder)
    yield f"analytic wiring, {epochs + more} epochs", count_parameters(net), accuracy(net, data, params), None
    if evolved:
        net = trained(whole, genotype_of(params, prepared, folder, "ste"), data, folder)
        yield f"evolved wiring, {epochs + more} epochs", count_parameters(net), accuracy(net, data, params), None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("epochs", 10), ("fine-tune", 10), ("seeds", 3), ("genes", 28)):
        parser.add_argument(f"--{name}", type=positive_int, default=default)
    parser.add_argument("--evolve", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    base = changed(load_params(PRESET), network={"n_genes": arguments.genes})
    if arguments.epochs <= (warmup := base.train.warmup_epochs):
        parser.error(f"--epochs {arguments.epochs} is not allowed: give more than the {warmup:g} epochs of warm-up")
    torch.set_num_threads(1)
    rows: dict[str, list] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare.run(base.prepare, folder / "prepared")
        data = load_prepared(folder / "prepared")
        for seed in range(arguments.seeds):
            params = changed(base, base={"seed": seed})
            plan = (arguments.epochs, arguments.fine_tune, arguments.evolve)
            for contender, *values in compare(params, data, folder / "prepared", folder, *plan):
                rows.setdefault(contender, []).append(values)
    results = [summary(contender, found) for contender, found in rows.items()]
    if arguments.json:
        print(json.dumps(results))
        return
    table = Table("", "parameters", f"test accuracy, n = {arguments.seeds}", "weight error")
    for row in results:
        error = "" if row["error"] is None else f"{row['error']:.3f}"
        accuracy_text = f"{row['accuracy']:.2%} ± {row['sd']:.2%}"
        table.add_row(row["contender"], f"{row['parameters']:,}", accuracy_text, error)
    Console().print(table)


def summary(contender: str, found: list[list]) -> dict:
    """Mean and standard deviation over the seeds."""
    accuracies = [row[1] for row in found]
    errors = [row[2] for row in found if row[2] is not None]
    return {
        "contender": contender,
        "parameters": found[0][0],
        "accuracy": statistics.mean(accuracies),
        "sd": statistics.stdev(accuracies) if len(found) > 1 else 0.0,
        "n": len(found),
        "error": statistics.mean(errors) if errors else None,
    }


if __name__ == "__main__":
    main()

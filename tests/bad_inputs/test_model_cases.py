"""What train and evolve wrote: checkpoints, genotypes, and the two files that users bring."""

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from gee_core.genome.genotype import Genotype
from tests.bad_inputs.case import Case, Change, cut, edit, flip, param, remove, write

CHECKPOINT, ITS_JSON = "models/train/network.safetensors", "models/train/network.json"
GENOTYPE = "models/evolve/genotype.json"


def checkpoint(name: str, *change: Change, says: str, remedy: str = "dvc repro", run: str = "evaluate") -> Case:
    return Case(name=name, run=run, change=change, says=says, remedy=remedy)


def planted(spoil) -> Change:
    """Other bytes for the checkpoint, with their checksum in its JSON."""

    def change(folder: Path) -> None:
        content = spoil(folder / CHECKPOINT)
        (folder / CHECKPOINT).write_bytes(content)
        about = json.loads((folder / ITS_JSON).read_text()) | {"sha256": hashlib.sha256(content).hexdigest()}
        (folder / ITS_JSON).write_text(json.dumps(about))

    return change


def tensors(edit_them) -> Change:
    def spoil(path: Path) -> bytes:
        values = load_file(path)
        edit_them(values)
        return save(values)

    return planted(spoil)


def first(values: dict) -> str:
    return next(name for name, tensor in values.items() if tensor.is_floating_point() and tensor.ndim > 1)


def about(**values) -> Change:
    def change(folder: Path) -> None:
        (folder / ITS_JSON).write_text(json.dumps(json.loads((folder / ITS_JSON).read_text()) | values))

    return change


OTHER = f"{CHECKPOINT}: a checkpoint of another network"
LONG_HEADER = (2**40).to_bytes(8, "little") + b"{}"
CHECKPOINTS = [
    *(
        checkpoint("of other genes", param("network.n_genes", "7"), says=f"{OTHER} (n_genes is 6, not 7)", run=stage)
        for stage in ("evaluate", "robustness", "export")
    ),
    checkpoint("of other steps", param("network.T", "3"), says=f"{OTHER} (T is 2, not 3)"),
    checkpoint("of another name", param("network.name", "cifarnet"), says=f"{OTHER} (name is 'vgg16', not 'cifarnet')"),
    checkpoint("missing", remove("models/train"), says=f"{CHECKPOINT}: not found"),
    checkpoint("without its JSON", remove(ITS_JSON), says=f"{ITS_JSON}: not found"),
    checkpoint("a folder", remove(CHECKPOINT), write(f"{CHECKPOINT}/x", ""), says=f"{CHECKPOINT}: not found"),
    checkpoint("empty", write(CHECKPOINT, b""), says=f"{CHECKPOINT}: damaged"),
    checkpoint("half", cut(CHECKPOINT), says=f"{CHECKPOINT}: damaged"),
    checkpoint("one bit flipped", flip(CHECKPOINT), says=f"{CHECKPOINT}: damaged, its checksum"),
    checkpoint("one bit of its header flipped", flip(CHECKPOINT, 0.0), says=f"{CHECKPOINT}: damaged, its checksum"),
    checkpoint("half its JSON", cut(ITS_JSON), says=f"{CHECKPOINT}: damaged, as is network.json"),
    checkpoint("its JSON a list", write(ITS_JSON, "[]"), says=f"{CHECKPOINT}: damaged, as is network.json"),
    checkpoint("its JSON all brackets", write(ITS_JSON, "[" * 100_000), says="network.json (nested too deeply)"),
    checkpoint("another checksum", about(sha256="0" * 64), says=f"{CHECKPOINT}: damaged, its checksum"),
    checkpoint("no checksum", about(sha256=None), says=f"{CHECKPOINT}: damaged, its checksum"),
    checkpoint(
        "no network in its JSON",
        about(network=[]),
        planted(lambda path: path.read_bytes()),
        says=f"{CHECKPOINT}: does not describe a network",
    ),
    checkpoint("another value in its JSON", about(num_classes=11), says=f"{CHECKPOINT}: damaged, its checksum"),
    checkpoint("a pickle", planted(lambda path: pickle.dumps({"a": 1})), says=f"{CHECKPOINT}: damaged"),
    checkpoint("a header of a terabyte", planted(lambda path: LONG_HEADER), says=f"{CHECKPOINT}: damaged"),
    checkpoint("a tensor less", tensors(lambda t: t.pop(first(t))), says=f"{CHECKPOINT}: does not fit the network"),
    checkpoint("a tensor more", tensors(lambda t: t.update(x=torch.ones(1))), says=f"{CHECKPOINT}: does not fit the network"),
    checkpoint("another shape", tensors(lambda t: t.update({first(t): torch.ones(3)})), says=f"{CHECKPOINT}: does not fit"),
    checkpoint(
        "NaN among its weights", tensors(lambda t: t[first(t)].fill_(float("nan"))), says="holds values that are not finite"
    ),
]


def genotype(name: str, *change: Change, says: str) -> Case:
    return Case(name=name, run="train", change=change, says=f"{GENOTYPE}: {says}", remedy="dvc repro evolve")


GENOTYPES = [
    genotype("missing", remove(GENOTYPE), says="not found"),
    genotype("half", cut(GENOTYPE), says="damaged"),
    genotype("no text", write(GENOTYPE, b"\xff\xfe"), says="damaged"),
    genotype("all brackets", write(GENOTYPE, "[" * 100_000), says="damaged (nested too deeply)"),
    genotype("a list", write(GENOTYPE, "[]"), says="damaged (not a JSON object)"),
    genotype("without a seed", edit(GENOTYPE, '"seed"', '"sead"'), says="damaged (lacks seed)"),
    genotype("of another network", param("network.name", "resnet19"), says="a genotype of another network"),
    genotype("a name without end", edit(GENOTYPE, '"vgg16"', f'"{"x" * 5000}"'), says="damaged (network: String should have"),
    genotype("of other genes", param("network.n_genes", "8"), says="a genotype of another network"),
    genotype("a σ too few", edit(GENOTYPE, r'"sigma_X": \[.*\]', '"sigma_X": [0.4]'), says="does not fit the network"),
    genotype("no σ's", edit(GENOTYPE, '"sigma_O": 0.3', '"sigma_O": null'), says="damaged (its σ's must be positive numbers"),
    genotype("a σ that is a word", edit(GENOTYPE, '"sigma_O": 0.3', '"sigma_O": "wide"'), says="damaged"),
    genotype("a σ below 0", edit(GENOTYPE, '"sigma_O": 0.3', '"sigma_O": -0.3'), says="damaged"),
    genotype("an infinite σ", edit(GENOTYPE, '"sigma_O": 0.3', '"sigma_O": 1e999'), says="damaged (the number 1e999"),
    genotype(
        "a σ of 5,000 digits", edit(GENOTYPE, '"sigma_O": 0.3', f'"sigma_O": {"9" * 5000}'), says="damaged (a number of 5000"
    ),
    genotype(
        "a gene of shape outside its range",
        edit(GENOTYPE, '"sigma_O"', '"shape": {"omega_O": 1.5}, "sigma_O"'),
        says="damaged (shape.omega_O: Input should be less than or equal to 1",
    ),
    genotype(
        "an unknown gene", edit(GENOTYPE, '"sigma_O"', '"shape": {"omega": 1}, "sigma_O"'), says="damaged (shape.omega: Extra"
    ),
    genotype("a seed that is a fraction", edit(GENOTYPE, '"seed": 1', '"seed": 1.5'), says="damaged"),
]

OLD, PLAIN = "inputs/old.json", "inputs/plain.safetensors"
OWN = Genotype(0.3, (0.4,) * 8)
START = {"network": "vgg16", "n_genes": 6, "form": "per_layer", "sigma_O": 0.3, "sigma_X": list(OWN.sigma_X), "seed": 1}


def brought(name: str, *change: Change, says: str, run: str = "evolve", remedy: str = "or `analytic`") -> Case:
    return Case(name=name, run=run, change=change, says=says, remedy=remedy)


def start(content: dict | str | None) -> tuple[Change, ...]:
    text = content if isinstance(content, str) else json.dumps(content)
    return (param("evolve.start", OLD), *([] if content is None else [write(OLD, text)]))


BROUGHT = [
    brought("no start", *start(None), says=f"evolve.start = {OLD}: cannot be read", remedy="or set `analytic`"),
    brought("a start of brackets", *start("[" * 100_000), says=f"evolve.start = {OLD}: not a genotype to start at (nested"),
    brought("a start of another form", *start(START | {"form": "shared"}), says="old.json: a genotype of another search"),
    brought("a start with too few σ's", *start(START | {"sigma_X": [0.4]}), says="has 1 σ's of encodings, not 8"),
    brought(
        "a start with a gene outside its range",
        *start(START | {"shape": {"omega_O": 1.5}}),
        says="old.json: not a genotype to start at (shape.omega_O: Input should be less than or equal to 1",
    ),
    brought("a start with an unknown gene", *start(START | {"shape": {"omega": 1}}), says="(shape.omega: Extra inputs"),
    brought(
        "σ = 1 and bounds that cannot reach the analytic σ's",
        param("evolve.start", "unit"),
        says="evolve.bound = 4.0: a search from σ = 1 (evolve.start = unit) cannot reach the analytic σ's",
        remedy="set evolve.bound to 5 or more",
        run="gee run",
    ),
    brought(
        "σ = 1 where σ_O is not searched",
        param("evolve.start", "unit"),
        param("evolve.genotype", "shape"),
        says="evolve.start = unit: evolve.genotype = shape keeps σ_O at 1",
        remedy="set evolve.start to analytic",
    ),
    brought(
        "a start that is not there, by gee",
        *start(None),
        says=f"evolve.start = {OLD}: cannot be read",
        run="gee run",
        remedy="or set `analytic`",
    ),
    brought(
        "a start that DVC does not watch",
        param("evolve.start", GENOTYPE),
        says=f"evolve.start = {GENOTYPE}: not in the folder inputs/",
        remedy="copy the file there and set evolve.start to inputs/genotype.json",
    ),
    brought(
        "no network to encode",
        param("train.init_from", PLAIN),
        says=f"train.init_from = {PLAIN}: {PLAIN}: no such file",
        run="train",
        remedy="or set null",
    ),
    brought(
        "a pickle to encode",
        param("train.init_from", PLAIN),
        write(PLAIN, pickle.dumps({})),
        write("inputs/plain.json", json.dumps({"sha256": hashlib.sha256(pickle.dumps({})).hexdigest()})),
        says=f"train.init_from = {PLAIN}: damaged",
        run="train",
        remedy="or null",
    ),
    brought(
        "a network to encode that DVC does not watch",
        param("train.init_from", CHECKPOINT),
        says=f"train.init_from = {CHECKPOINT}: not in the folder inputs/",
        remedy="copy the file there and set train.init_from to inputs/network.safetensors",
        run="train",
    ),
]
MEASURED = "reports/evaluate/metrics.json"


def measured(name: str, *change: Change, says: str) -> Case:
    return Case(name=name, run="export", change=change, says=f"{MEASURED}: {says}", remedy="dvc repro -f evaluate")


EVALUATION = [
    measured("nothing measured", remove(MEASURED), says="not found"),
    measured("half of what was measured", cut(MEASURED), says="damaged"),
    measured("an accuracy less", edit(MEASURED, '"test_accuracy"', '"accuracy"'), says="damaged (lacks test_accuracy)"),
    measured("an infinite loss", edit(MEASURED, '"test_loss": 0.8', '"test_loss": 1e999'), says="damaged (the number 1e999"),
    measured("an accuracy that is a word", edit(MEASURED, ": 0.75", ': "high"'), says="damaged (test_accuracy: Input"),
]
CASES = CHECKPOINTS + GENOTYPES + BROUGHT + EVALUATION


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_models_are_refused(case, refuses):
    refuses(case)

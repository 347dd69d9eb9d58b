"""What train and evolve wrote: checkpoints, genotypes, and the two files that users bring."""

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from gee_core.genome.genotype import Genotype
from tests.bad_inputs.case import Case, Change, cut, edit, flip, param, remove, row, write

CHECKPOINT, ITS_JSON = "models/train/network.safetensors", "models/train/network.json"
GENOTYPE = "models/evolve/genotype.json"


def checkpoint(says: str, *change: Change, remedy: str = "dvc repro", run: str = "checkpoint") -> Case:
    return row(run, says, remedy, *change)


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
        row(stage, f"{GENOTYPE}: a genotype of another network", "dvc repro evolve", param("network.n_genes", "7"))
        for stage in ("evaluate", "export")
    ),
    checkpoint(f"{OTHER} (T is 2, not 3)", param("network.T", "3")),
    checkpoint(f"{CHECKPOINT}: not found", remove("models/train")),
    checkpoint(f"{ITS_JSON}: not found", remove(ITS_JSON)),
    checkpoint(f"{CHECKPOINT}: not found", remove(CHECKPOINT), write(f"{CHECKPOINT}/x", "")),
    checkpoint(f"{CHECKPOINT}: damaged", cut(CHECKPOINT)),
    checkpoint(f"{CHECKPOINT}: damaged, its checksum", flip(CHECKPOINT)),
    checkpoint(f"{CHECKPOINT}: damaged, as is network.json", cut(ITS_JSON)),
    checkpoint(f"{CHECKPOINT}: damaged, its checksum", about(sha256="0" * 64)),
    checkpoint(f"{CHECKPOINT}: does not describe a network", about(network=[]), planted(lambda path: path.read_bytes())),
    checkpoint(f"{CHECKPOINT}: damaged", planted(lambda path: LONG_HEADER)),
    checkpoint(f"{CHECKPOINT}: does not fit the network", tensors(lambda t: t.pop(first(t)))),
    checkpoint(f"{CHECKPOINT}: does not fit", tensors(lambda t: t.update({first(t): torch.ones(3)}))),
    checkpoint("holds values that are not finite", tensors(lambda t: t[first(t)].fill_(float("nan")))),
]


def genotype(says: str, *change: Change, run: str = "genotype") -> Case:
    return row(run, f"{GENOTYPE}: {says}", "dvc repro evolve", *change)


GENOTYPES = [
    genotype("not found", remove(GENOTYPE), run="train"),
    genotype("damaged", cut(GENOTYPE)),
    genotype("damaged (lacks seed)", edit(GENOTYPE, '"seed"', '"sead"')),
    genotype("a genotype of another network", param("network.name", "resnet19")),
    genotype("does not fit the network", edit(GENOTYPE, '"sigma_7": 0.4, ', ""), run="train"),
    genotype("damaged (sigma_O must be > 0 and finite", edit(GENOTYPE, '"sigma_O": 0.3', '"sigma_O": -0.3')),
    genotype("damaged (its genes lack σ's", edit(GENOTYPE, '"sigma_O": 0.3, ', "")),
    genotype("damaged (kappa is no gene of a network with 8 encodings", edit(GENOTYPE, '"beta"', '"kappa"')),
    genotype("damaged (the number 1e999", edit(GENOTYPE, '"sigma_O": 0.3', '"sigma_O": 1e999')),
    genotype(
        "damaged (omega_O: Input should be less than or equal to 1",
        edit(GENOTYPE, '"omega_O": 0.0', '"omega_O": 1.5'),
    ),
]

OLD, PLAIN = "inputs/old.json", "inputs/plain.safetensors"
OWN = Genotype(0.3, (0.4,) * 8)
START = {"network": "vgg16", "width": 1 / 16, "n_genes": 6, "genes": OWN.as_dict(), "seed": 1}


def brought(says: str, *change: Change, run: str = "start", remedy: str = "or `analytic`") -> Case:
    return row(run, says, remedy, *change)


def start(content: dict | str | None) -> tuple[Change, ...]:
    text = content if isinstance(content, str) else json.dumps(content)
    return (param("evolve.start", OLD), *([] if content is None else [write(OLD, text)]))


BROUGHT = [
    brought(f"evolve.start = {OLD}: not a genotype to start at (nested", *start("[" * 100000)),
    brought("old.json: a genotype of another search", *start(START | {"width": 1.0})),
    brought("has 1 σ's of encodings, not 8", *start(START | {"genes": {"sigma_O": 0.3, "sigma_0": 0.4}}), run="evolve"),
    brought(f"evolve.start = {OLD}: cannot be read", *start(None), remedy="or set `analytic`", run="gee run"),
    brought(
        f"evolve.start = {GENOTYPE}: not in the folder inputs/",
        param("evolve.start", GENOTYPE),
        remedy="copy the file there and set evolve.start to inputs/genotype.json",
    ),
    brought(
        f"train.init_from = {PLAIN}: {PLAIN}: no such file",
        param("train.init_from", PLAIN),
        remedy="or name one that `gee pretrained` lists",
        run="train",
    ),
    brought(
        f"train.init_from = {PLAIN}: damaged",
        param("train.init_from", PLAIN),
        write(PLAIN, pickle.dumps({})),
        write("inputs/plain.json", json.dumps({"sha256": hashlib.sha256(pickle.dumps({})).hexdigest()})),
        remedy="or null",
        run="train",
    ),
    brought(
        f"train.init_from = {CHECKPOINT}: not in the folder inputs/",
        param("train.init_from", CHECKPOINT),
        remedy="copy the file there and set train.init_from to inputs/network.safetensors",
        run="train",
    ),
]
MEASURED = "reports/evaluate/metrics.json"


def measured(says: str, *change: Change, run: str = "evaluation") -> Case:
    return row(run, f"{MEASURED}: {says}", "dvc repro -f evaluate", *change)


EVALUATION = [
    measured("not found", remove(MEASURED), run="export"),
    measured("damaged", cut(MEASURED)),
    measured("damaged (lacks test_accuracy)", edit(MEASURED, '"test_accuracy"', '"accuracy"')),
]
CASES = CHECKPOINTS + GENOTYPES + BROUGHT + EVALUATION


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_models_are_refused(case, refuses):
    refuses(case)

"""Runs a cell with the functions of the pipeline's stages. Cells share images, searches and trained networks.

The keys of .scratch/studies/{prepare,evolve,train}/<key>/ are hashes of the inputs and the code, as in
`pipelines.runtime.resume_folder`. The first process that opens a folder does the work while the others wait. A search that was
killed resumes from its records, a training run from its last state.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gee_core.checkpoint import save
from gee_core.config import PrepareConfig
from gee_core.data.prepared import Prepared
from gee_core.data.sources import raw_files
from gee_core.errors import DivergedError
from gee_core.hardware import Compute
from gee_core.seeding import derive_seed
from gee_core.storage.atomic_files import sha256
from gee_core.storage.json_object import json_digest, read_sealed, write_sealed
from gee_core.training.recipe import images_per_epoch
from pipelines import evaluate, evolve, prepare, robustness, train
from pipelines.engines.candidates import score_here
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.inputs.init_from import init_from_files
from pipelines.inputs.loading import load_trained, prepared_images
from pipelines.inputs.own_network import build_own_network
from pipelines.project.paths import STUDY_STEPS
from pipelines.runtime.file_lock import file_lock
from pipelines.runtime.resume_folder import HELD, delete_folder, open_resume_folder, run_key
from pipelines.studies.cell import Cell, CellResult
from pipelines.studies.kendall import OF_SCORE

log = logging.getLogger(__name__)

RESULT, WORK, NETWORK = "result.json", "work", "network.safetensors"
"""In a folder of `once`: the numbers and checksums, the states of unfinished work, and a trained network."""

Numbers = dict[str, float]


def once(folder: Path, compute: Callable[[], Numbers]) -> Numbers:
    """The numbers of ``compute``, which writes files into ``folder``. It is called again where a file is missing or damaged."""
    with file_lock(folder / HELD):
        kept = read_sealed(folder / RESULT)
        damaged = [] if kept is None else sorted(kept["files"].items() - _checksums(folder).items())
        if damaged:
            log.warning("%s: damaged or missing; it is recomputed", folder / damaged[0][0])
        if kept is None or damaged:
            numbers = compute()
            delete_folder(folder / WORK)
            kept = {"numbers": numbers, "files": _checksums(folder)}
            write_sealed(folder / RESULT, kept)
        return kept["numbers"]


def _checksums(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (HELD, RESULT)]
    return {str(path.relative_to(folder)): sha256(path) for path in files}


def prepare_images(cfg: PrepareConfig) -> Path:
    """The folder with the images of ``cfg``, which are prepared unless they are there."""
    folder = STUDY_STEPS / "prepare" / run_key("prepare", [cfg], [], _listing(cfg))

    def compute() -> Numbers:
        prepare.run(cfg, folder / "images")
        return {}

    once(folder, compute)
    return folder / "images"


def _listing(cfg: PrepareConfig) -> str:
    """A hash of the names, sizes and times of the raw files, so that changed images in the same folder are prepared again."""
    states = [(str(path), path.stat()) for path in raw_files(cfg) if path.exists()]
    return json_digest({"files": [(path, state.st_size, state.st_mtime_ns) for path, state in states]})


def run_cell(cell: Cell) -> CellResult:
    """Measure a cell. A training run that diverges is a result; every other failure is an exception."""
    data, result = prepared_images(cell.prepared), CellResult(status="ok", metrics={})
    try:
        folder, genotype, numbers = train_cell(cell, data)
    except DivergedError as error:
        return {"status": f"failed: {error}", "metrics": {}}
    params = cell.params.with_genes(genotype.genes)
    net = load_trained(params, data.meta, folder / NETWORK).to(Compute.of(params.base.device, "fp32").device)
    if "evaluate" in cell.stages:
        measured, layers, _ = evaluate.run(params, net, data)
        numbers |= measured.model_dump()
        result["layers"] = _rows(layers)
    if "robustness" in cell.stages:
        noise = robustness.run(params, net, data)
        numbers |= robustness.metrics(noise)
        numbers["noise_drop"] = numbers["clean_accuracy"] - numbers["noise_accuracy"]
        result["noise"] = _rows(noise)
        result["hardware"] = _rows(robustness.run_hardware(params, net, data))
    if "export" in cell.stages and params.export.genes is not None:
        from pipelines.export import write_genes  # loads ONNX, which no other study needs

        with TemporaryDirectory() as temporary:
            numbers |= write_genes(Path(temporary), params, net, data, with_onnx=False)
        numbers["genes_drop"] = numbers["fp32_accuracy"] - numbers["genes_accuracy"]
    values = numbers | {"n_genes": params.network.n_genes, "width": params.network.width}
    result["metrics"] = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
    return result


def _rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``rows`` with None for a number that JSON cannot hold."""
    return [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()} for row in rows]


def train_cell(cell: Cell, data: Prepared) -> tuple[Path, GenotypeFile, Numbers]:
    """Search and train the network of a cell, or find what another cell has done.

    Returns the folder with the file `NETWORK`, the genotype, and the numbers of the search and the training run.

    Raises:
        DivergedError: the training run diverged, or the candidate to train failed in the search.
    """
    build_own_network(cell.params, data.meta, cell.network)
    genotype, numbers = _searched(cell)
    params, start = cell.params, ""
    if cell.training is not None:
        seed = derive_seed(params.base.seed, "training", cell.training) % 2**31
        params = params.model_copy(update={"base": params.base.model_copy(update={"seed": seed})})
    sections, files, passes = [params.base, params.network, params.train], init_from_files(params), 0.0
    if cell.encoded is not None:
        plain = replace(cell, params=cell.encoded, encoded=None)
        first, _, of_first = train_cell(plain, data)
        start, passes = first.name, of_first["train_passes"]
        of_train = params.train.model_copy(update={"init_from": str(first / NETWORK)})
        params = params.model_copy(update={"train": of_train})
    key = json.dumps([genotype.n_genes, genotype.genes, genotype.seed]) + cell.network + start  # not the search that found them
    folder = open_resume_folder("train", sections, [cell.prepared / "meta.json", *files], STUDY_STEPS, key)

    def compute() -> Numbers:
        begin = time.perf_counter()
        trained = train.run(params, genotype, data, folder / WORK)
        per_epoch = images_per_epoch(len(train.training_images(params.train, data)), params.train.batch_size)
        save(folder / NETWORK, trained.net)
        spent = {"train_passes": passes + params.train.epochs * per_epoch, "train_seconds": time.perf_counter() - begin}
        return trained.metrics | spent

    return folder, genotype, numbers | once(folder, compute)


def _searched(cell: Cell) -> tuple[GenotypeFile, Numbers]:
    """The genotype that the cell trains, and the numbers of its search. A finished search is replayed from its records."""
    params = cell.params
    if not params.scores_candidates:
        return evolve.genotype_file(params, None), {}
    shared = params.model_copy(update={"evolve": params.evolve.model_copy(update={"choose": "knee"})})
    folder = evolve.resume_folder(shared, cell.prepared, STUDY_STEPS)
    with file_lock(folder / HELD):
        search = evolve.run(params, cell.prepared, folder, open_scorer=score_here)
        delete_folder(folder / evolve.CHECKPOINTS)
    passes = sum(record.score.image_passes for record in search.records)
    numbers = search.metrics | {"evolve_passes": passes, "evolve_seconds": sum(record.seconds for record in search.records)}
    if cell.candidate is None:
        return search.genotype, numbers
    record = [record for record in search.records if not record.candidate.rescored][cell.candidate]
    if not record.ok:
        raise DivergedError(record.score.status)
    return evolve.genotype_file(params, record), numbers | {name: getattr(record.score, name) for name in OF_SCORE}

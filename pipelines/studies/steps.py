"""Runs a cell with the functions of the pipeline's stages. Cells share images, searches and trained networks.

Each of these is a run folder with a key of its inputs and its code. The first process that opens one does the work while the
others wait. A search that was killed resumes from its rows, a training run from its last state.
"""

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from gee_core.checkpoint import save
from gee_core.compute import Compute, set_up_gpu
from gee_core.config import Params, PrepareConfig
from gee_core.data.meta import Meta
from gee_core.data.prepared import Prepared
from gee_core.data.sources import raw_files
from gee_core.errors import DivergedError, InputError
from gee_core.model.base import SpikingNetwork
from gee_core.seeding import derive_seed
from gee_core.storage.atomic_files import write_atomically
from gee_core.storage.json_object import json_digest
from gee_core.training.recipe import images_per_epoch
from pipelines import evaluate, evolve, prepare, robustness, train
from pipelines.engines.candidates import score_here
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.inputs.init_from import init_from_files
from pipelines.inputs.loading import load_trained, prepared_images
from pipelines.inputs.own_network import build_own_network
from pipelines.runtime.process_tree import file_lock
from pipelines.runtime.run_files import HELD, WORK, delete_folder
from pipelines.runtime.run_folder import once, run_key, runs_root
from pipelines.studies.plan import Cell, CellResult

IMAGES, NETWORK = Path("files/images"), Path("files/network.safetensors")
"""In the run folder of prepared images, and of a trained network."""
ROWS_OF = "files/{}.csv"
"""In the run folder of a cell: its rows of a kind."""

OF_SCORE = ("L_ce", "TSE", "R_T", "var_o", "R_S", "proxy_accuracy")
"""The measurements of a candidate, which do not depend on the form of the fitness, so that all forms are compared on them."""

Numbers = dict[str, float]


def prepare_images(cfg: PrepareConfig) -> Path:
    """The folder with the images of ``cfg``, which are prepared unless they are there.

    Changed images in the same folder are prepared again: the names, sizes and times of the raw files are part of the key.
    """
    states = [(str(path), path.stat()) for path in raw_files(cfg) if path.exists()]
    listing = json_digest({"files": [(path, state.st_size, state.st_mtime_ns) for path, state in states]})
    folder = runs_root() / f"step-prepare-{run_key('prepare', [cfg], [], listing)}"

    def compute() -> Numbers:
        prepare.run(cfg, folder / IMAGES)
        return {}

    once(folder, compute)
    return folder / IMAGES


def run_cell(cell: Cell) -> CellResult:
    """Measure a cell, and write its rows by layer, noise and defect to CSV files in its folder.

    A training run that diverges is a result; every other failure is an exception.
    """
    compute = Compute.of(cell.params.base.device, cell.params.base.precision)
    set_up_gpu(compute.device)
    data, rows = prepared_images(cell.prepared), {}
    try:
        folder, genotype, numbers = train_cell(cell, data)
    except DivergedError as error:
        return CellResult(f"failed: {error}", {})
    params = cell.params.with_genes(genotype.genes)
    net = load_network(params, data.meta, folder).to(compute.device)
    if "evaluate" in cell.stages:
        measured, rows["layers"], _ = evaluate.run(params, net, data, compute)
        numbers |= measured.model_dump()
    if "robustness" in cell.stages:
        rows["noise"] = robustness.run(params, net, data, compute)
        rows["hardware"] = robustness.run_hardware(params, net, data, compute)
        numbers |= robustness.metrics(rows["noise"])
        numbers["noise_drop"] = numbers["clean_accuracy"] - numbers["noise_accuracy"]
    if "export" in cell.stages and params.export.genes is not None:
        from pipelines.export import write_genes  # loads ONNX, which no other study needs

        with TemporaryDirectory() as temporary:
            numbers |= write_genes(Path(temporary), params, net, data, with_onnx=False)
        numbers["genes_drop"] = numbers["fp32_accuracy"] - numbers["genes_accuracy"]
    for kind, measurements in rows.items():
        if measurements:
            write_atomically(cell.folder / ROWS_OF.format(kind), pd.DataFrame(measurements).to_csv(index=False))
    values = numbers | {"n_genes": params.network.n_genes, "width": params.network.width}
    known = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
    return CellResult("ok", known)


def load_network(params: Params, meta: Meta, folder: Path) -> SpikingNetwork:
    """The network in the folder of a training. The InputError of a damaged one names the folder to delete."""
    try:
        return load_trained(params, meta, folder / NETWORK)
    except InputError as error:
        raise InputError(error.problem, f"delete the folder {folder}, and run the study again") from None


def train_cell(cell: Cell, data: Prepared) -> tuple[Path, GenotypeFile, Numbers]:
    """Search and train the network of a cell, or find what another cell has done.

    Returns the folder with the file `NETWORK`, the genotype, and the numbers of the search and the training run.

    Raises:
        DivergedError: the training run diverged, or the candidate to train failed in the search.
    """
    build_own_network(cell.params, data.meta, cell.network)
    genotype, numbers = _search(cell)
    params, start = cell.params, ""
    if cell.training is not None:
        seed = derive_seed(params.base.seed, "training", cell.training) % 2**31
        params = params.model_copy(update={"base": params.base.model_copy(update={"seed": seed})})
    sections, files, passes = [params.base, params.network, params.train], init_from_files(params), 0.0
    if cell.encoded is not None:
        first, _, of_first = train_cell(replace(cell, params=cell.encoded, encoded=None), data)
        load_network(cell.encoded, data.meta, first)
        start, passes = first.name, of_first["train_passes"]
        of_train = params.train.model_copy(update={"init_from": str(first / NETWORK)})
        params = params.model_copy(update={"train": of_train})
    found = [genotype.n_genes, genotype.genes, genotype.seed]  # not the search that found them
    extra = json.dumps(found) + cell.network + start
    folder = runs_root() / f"step-train-{run_key('train', sections, [cell.prepared / 'meta.json', *files], extra)}"

    def compute() -> Numbers:
        begin = time.perf_counter()
        trained = train.run(params, genotype, data, folder / WORK)
        per_epoch = images_per_epoch(len(train.training_images(params.train, data)), params.train.batch_size)
        save(folder / NETWORK, trained.net)
        spent = {"train_passes": passes + params.train.epochs * per_epoch, "train_seconds": time.perf_counter() - begin}
        return trained.metrics | spent

    return folder, genotype, numbers | once(folder, compute)


def _search(cell: Cell) -> tuple[GenotypeFile, Numbers]:
    """The genotype that the cell trains, and the numbers of its search. A finished search is replayed from its rows."""
    params = cell.params
    if not params.scores_candidates:
        return evolve.genotype_file(params, None), {}
    folder = runs_root() / f"step-evolve-{evolve.search_key(params, cell.prepared)}"
    with file_lock(folder / HELD):
        search = evolve.run(params, cell.prepared, folder, open_scorer=score_here)
        delete_folder(folder / WORK)
    passes = sum(record.score.image_passes for record in search.records)
    numbers = search.metrics | {"evolve_passes": passes, "evolve_seconds": sum(record.seconds for record in search.records)}
    if cell.candidate is None:
        return search.genotype, numbers
    record = [record for record in search.records if not record.candidate.rescored][cell.candidate]
    if not record.ok:
        raise DivergedError(record.score.status)
    return evolve.genotype_file(params, record), numbers | {name: getattr(record.score, name) for name in OF_SCORE}

"""Runs a cell with the functions of the pipeline's stages; what cells have in common is computed once and kept.

The keys of .scratch/studies/{prepare,evolve,train}/<key>/ are hashes of the inputs and the code, as in
`pipelines.runtime.resume_folder`. The first process that opens a folder does the work while the others wait; a step that was
killed resumes where it stopped.
"""

import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from gee_core.checkpoint import save
from gee_core.config import Params, PrepareConfig
from gee_core.data.prepared import Prepared
from gee_core.data.sources import raw_files
from gee_core.errors import DivergedError, InputError
from gee_core.evolution.candidate import Record
from gee_core.evolution.front import chosen
from gee_core.hardware import Compute
from gee_core.model.network import SpikingNetwork
from gee_core.seeding import derive_seed
from gee_core.storage.json_object import json_digest, read_sealed, write_sealed
from gee_core.training.recipe import images_per_epoch
from pipelines import evaluate, evolve, prepare, robustness, train
from pipelines.engines.candidates import score_here
from pipelines.inputs.genotype_file import FrontFile, GenotypeFile
from pipelines.inputs.init_from import init_from_files
from pipelines.inputs.loading import load_trained, prepared_images
from pipelines.inputs.own_network import build_own_network, network_digest
from pipelines.project.paths import STUDY_STEPS
from pipelines.runtime.file_lock import file_lock
from pipelines.runtime.resume_folder import HELD, delete_folder, open_resume_folder, run_key
from pipelines.studies.cell import Cell, CellResult
from pipelines.studies.kendall import OF_SCORE

log = logging.getLogger(__name__)

EVOLVED, TRAINED, NETWORK = "evolved.json", "trained.json", "network.safetensors"
T = TypeVar("T")
Notify = Callable[[str], None]
"""Receives the step that a cell is at, in a few words."""


def prepare_images(cfg: PrepareConfig) -> Path:
    """The folder with the images of ``cfg``, which are prepared unless they are there."""
    folder = STUDY_STEPS / "prepare" / run_key("prepare", [cfg], [], _listing(cfg))
    with file_lock(folder / HELD):
        images = folder / "images"
        if not (images / "meta.json").is_file() or _undamaged(lambda: prepared_images(images)) is None:
            prepare.run(cfg, images)
    return images


def run_cell(cell: Cell, notify: Notify = lambda note: None) -> CellResult:
    """Measure a cell. A training run that diverges is a result; every other failure is an exception."""
    try:
        return _measured(cell, notify)
    except DivergedError as error:
        return {"status": f"failed: {error}", "metrics": {}}


def _measured(cell: Cell, notify: Notify) -> CellResult:
    data, result = _images(cell), CellResult(status="ok", metrics={})
    trained, genotype, numbers = _to_train(cell, notify)
    net, of_training = _trained(trained, genotype, data, notify)
    params = cell.params.with_genes(genotype["genes"])
    numbers |= of_training
    if "evaluate" in cell.stages:
        notify("evaluate")
        measured, layers, _ = evaluate.run(params, net, data)
        numbers |= measured.model_dump()
        result["layers"] = _rows(layers)
    if "robustness" in cell.stages:
        notify("noise")
        noise = robustness.run(params, net, data)
        numbers |= robustness.metrics(noise)
        numbers["noise_drop"] = numbers["clean_accuracy"] - numbers["noise_accuracy"]
        result["noise"] = _rows(noise)
        notify("hardware")
        result["hardware"] = _rows(robustness.run_hardware(params, net, data))
    if "export" in cell.stages and params.export.genes is not None:
        from pipelines.export import write_genes  # loads ONNX, which no other study needs

        notify("genes")
        with TemporaryDirectory() as folder:
            numbers |= write_genes(Path(folder), params, net, data, with_onnx=False)
        numbers["genes_drop"] = numbers["fp32_accuracy"] - numbers["genes_accuracy"]
    numbers |= {"n_genes": params.network.n_genes, "width": params.network.width}
    result["metrics"] = {name: value for name, value in numbers.items() if value is not None and math.isfinite(value)}
    return result


def trained_folder(cell: Cell, notify: Notify) -> Path:
    """The folder with the trained network of a cell; deleted steps are computed again."""
    trained, genotype, _ = _to_train(cell, notify)
    _trained(trained, genotype, _images(cell), notify)
    return _train_folder(trained, genotype)


def _images(cell: Cell) -> Prepared:
    data = prepared_images(cell.prepared)
    build_own_network(cell.params, data.meta, cell.network)
    return data


def _to_train(cell: Cell, notify: Notify) -> tuple[Cell, dict[str, Any], dict[str, Any]]:
    """The cell as it is trained, with the seed of this training; the genotype to train; and the numbers of the search."""
    found = _evolved(cell, notify)
    if cell.candidate is None:
        return cell, found["genotype"], dict(found["metrics"])
    record = found["records"][cell.candidate]
    if record["status"] != "ok":
        raise DivergedError(record["status"])
    numbers = found["metrics"] | {name: record[name] for name in OF_SCORE}
    if cell.training is not None:
        base = cell.params.base
        seed = derive_seed(base.seed, "training", cell.training) % 2**31
        cell = replace(cell, params=cell.params.model_copy(update={"base": base.model_copy(update={"seed": seed})}))
    return cell, record["genotype"], numbers


def _genotype(params: Params, record: Record | None = None) -> dict[str, Any]:
    """A candidate's genotype as train reads it, or that of a network which is not evolved."""
    return evolve.genotype_file(params, record).model_dump()


def _first(cell: Cell) -> Cell | None:
    """The plain network at whose weights the cell starts, as a cell."""
    return replace(cell, params=cell.encoded, encoded=None) if cell.encoded else None


def _train_folder(cell: Cell, genotype: dict[str, Any]) -> Path:
    """Its key holds the wiring, not the evolution that found it."""
    extra = json.dumps([genotype[name] for name in ("n_genes", "genes", "seed")])
    extra += network_digest(cell.params.network.name)
    if first := _first(cell):
        extra += _train_folder(first, _genotype(first.params)).name
    sections, files = [cell.params.base, cell.params.network, cell.params.train], init_from_files(cell.params)
    return open_resume_folder("train", sections, [cell.prepared / "meta.json", *files], STUDY_STEPS, extra)


def _evolved(cell: Cell, notify: Notify) -> dict[str, Any]:
    """The `genotype` of the winner, `metrics`, and the `records` of the search: score and `genotype` of each candidate."""
    params = cell.params
    if params.network.n_genes is None:
        return {"genotype": _genotype(params), "metrics": {}, "records": []}
    knee = params.model_copy(update={"evolve": params.evolve.model_copy(update={"choose": "knee"})})
    folder = evolve.resume_folder(knee, cell.prepared, STUDY_STEPS)
    notify("evolve")
    with file_lock(folder / HELD):
        if known := read_sealed(folder / EVOLVED):
            return _chosen(known, params)
        total, done = evolve.n_candidates(params), itertools.count(1)

        def on_record(record: Record) -> None:
            notify(f"evolve {next(done)}/{total}")

        found = evolve.run(knee, cell.prepared, folder / "work", on_record, open_scorer=score_here)
        cost = {
            "evolve_passes": sum(record.score.image_passes for record in found.records),
            "evolve_seconds": sum(record.seconds for record in found.records),
        }
        records = [_record(record, params) for record in found.records if not record.candidate.rescored]
        front = None if found.front is None else found.front.model_dump_json()
        result = {"genotype": found.genotype.model_dump(), "metrics": found.metrics | cost, "records": records, "front": front}
        write_sealed(folder / EVOLVED, result)
        delete_folder(folder / "work")
        return _chosen(result, params)


def _chosen(evolved: dict[str, Any], params: Params) -> dict[str, Any]:
    """What ``_evolved`` found, with the member that `evolve.choose` names: cells of other choices share a search."""
    if evolved["front"] is None:
        return evolved
    members = FrontFile.model_validate_json(evolved["front"]).members
    points = [tuple(member.objectives.values()) for member in members]
    member = members[chosen(points, [member.price for member in members], params.evolve)]
    numbers = {"best_fitness": member.objectives["loss"], "best_proxy_accuracy": member.proxy_accuracy}
    return evolved | {"genotype": json.loads(member.genotype.model_dump_json()), "metrics": evolved["metrics"] | numbers}


def _trained(cell: Cell, genotype: dict[str, Any], data: Prepared, notify: Notify) -> tuple[SpikingNetwork, dict[str, float]]:
    """The fully trained network of the cell, and the metrics of its training run."""
    wiring, folder = GenotypeFile.model_validate_json(json.dumps(genotype)), _train_folder(cell, genotype)
    params = cell.params.with_genes(wiring.genes)
    passes_before: float = 0
    if first := _first(cell):
        plain = _genotype(first.params)
        passes_before = _trained(first, plain, data, lambda note: notify(f"plain: {note}"))[1]["train_passes"]
        of_train = params.train.model_copy(update={"init_from": str(_train_folder(first, plain) / NETWORK)})
        params = params.model_copy(update={"train": of_train})
    notify("train")

    def read() -> SpikingNetwork:
        return load_trained(params, data.meta, folder / NETWORK).to(Compute.of(params.base.device, "fp32").device)

    def on_epoch(row: dict[str, Any]) -> None:
        notify(f"train {row['epoch']}/{params.train.epochs}, accuracy {row['train_accuracy']:.3f}")

    with file_lock(folder / HELD):
        numbers = read_sealed(folder / TRAINED)
        if numbers is None or (net := _undamaged(read)) is None:
            start = time.perf_counter()
            net, _, numbers = train.run(params, wiring, data, folder / "work", on_epoch)
            n_images = len(train.training_images(params.train, data))
            passes = passes_before + params.train.epochs * images_per_epoch(n_images, params.train.batch_size)
            numbers |= {"train_passes": passes, "train_seconds": time.perf_counter() - start}
            save(folder / NETWORK, net)
            write_sealed(folder / TRAINED, numbers)
            delete_folder(folder / "work")
            net = read()
        return net, numbers


def _undamaged(read: Callable[[], T]) -> T | None:
    """The files of an earlier cell that ``read`` reads; None where it fails: logs why, since they are then recomputed."""
    try:
        return read()
    except InputError as error:
        log.warning("%s; it is recomputed", error.problem)
        return None


def _record(record: Record, params: Params) -> dict[str, Any]:
    """A candidate's score (None where it failed), and its genotype as train reads it."""
    return _rows([asdict(record.score)])[0] | {"genotype": _genotype(params, record) | {"fitness": None}}


def _rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """``rows`` with None for a number that JSON cannot hold."""
    return [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()} for row in rows]


def _listing(cfg: PrepareConfig) -> str:
    """A hash of the names, sizes and times of the raw files, so that changed images in the same folder are prepared again."""
    found = [(str(path), path.stat()) for path in raw_files(cfg) if path.exists()]
    return json_digest({"files": [(path, state.st_size, state.st_mtime_ns) for path, state in found]})

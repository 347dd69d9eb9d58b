"""Expands a study into its cells: every combination of options and seeds, with complete and checked parameters."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gee_core.config import Params
from gee_core.data.meta import load_meta
from gee_core.errors import InputError
from gee_core.model.network import count_parameters
from gee_core.model.wired import find_width, plain_parameters, wired_network
from pipelines.evolve import n_candidates
from pipelines.inputs.init_from import init_from_files
from pipelines.inputs.own_network import build_own_network, check_module_file, network_digest
from pipelines.inputs.search import check_search, load_start
from pipelines.project.params import check_params, override_values
from pipelines.project.presets import load_preset, preset_names
from pipelines.studies.cell import Cell, Request, cell_key, spell_out
from pipelines.studies.definition import STUDIES, Change, Overrides, Study

UNEVOLVED: Overrides = {"evolve.variant": "analytic", "evolve.start": "analytic"}
"""Spares a cell the search for a wiring that it does not start at."""

PLAIN: Overrides = {"network.n_genes": None, **UNEVOLVED}
"""Turns a genetic network into the plain one."""

Sections = dict[str, dict[str, Any]]
"""The contents of params.yaml, not checked yet."""


def draft_cells(study: Study, request: Request) -> list[Cell]:
    """Every cell that ``request`` asks for, with checked parameters; `resolve_cell` adds what depends on the images.

    Raises:
        InputError: a preset or setting is unknown, a value is invalid, or images are not on disk; names file and value.
    """
    file, preset = str(STUDIES / f"{request.name}.yaml"), request.preset or study.preset
    for name in (study.preset, *study.presets):
        if name not in preset_names():
            raise InputError(f"{file}: unknown preset {name!r}", f"choose one of {', '.join(preset_names())}")
    n_seeds = study.seeds if request.seeds is None else request.seeds
    if n_seeds < 1:
        raise InputError(f"--seeds {n_seeds}", "must be at least 1")
    study.check_size(n_seeds)
    if clash := study.varied() & set(request.overrides):
        raise InputError(f"--set {min(clash)}: the study varies this key", f"change it in {file}")
    common = override_values(load_preset(preset, request.data).values, study.set | study.presets.get(preset, {}), file)
    common = override_values(common, request.overrides, "--set")
    source = " ".join([file, *(f"--set {key}={value}" for key, value in request.overrides.items())])
    cells = [
        replace(_draft_cell(common, changes, seed, f"{source}, {spell_out(labels)}"), columns=labels, stages=study.stages())
        for labels, changes in _choose(study, request.only)
        for seed in range(n_seeds)
    ]
    for cell in cells:
        _check_files(cell.params, file)
        if cell.control:
            _without_genes(cell, {})
    return cells


def _choose(study: Study, only: dict[str, set[str]]) -> list[tuple[dict[str, str], list[Change]]]:
    """The study's combinations with the labels in ``only``."""
    combinations = study.combinations()
    for column, wanted in only.items():
        if column not in study.columns():
            problem = f"--only {column}=…: the study has no such column"
            raise InputError(problem, f"choose one of {', '.join(study.columns())}")
        known = list(dict.fromkeys(labels[column] for labels, _ in combinations if column in labels))
        if unknown := wanted - set(known):
            raise InputError(f"--only {column}={min(unknown)}: no such label", f"choose one of {', '.join(known)}")
        combinations = [pair for pair in combinations if pair[0].get(column) in wanted]
    return combinations


def _draft_cell(common: Sections, changes: Sequence[Change], seed: int, source: str) -> Cell:
    """The cell with ``changes``, and the seed so many after the first; its labels and stages are still to come."""
    settings, others = Overrides(), Overrides()
    for change in changes:
        for key, value in (change.set | change.model_dump(exclude={"set", "label", "columns"}, exclude_none=True)).items():
            merged = settings if key in change.set else others
            if merged.setdefault(key, value) != value:
                raise InputError(f"{source}: {key} is set to {merged[key]!r} and to {value!r}", "set it in one column alone")
    control, encoded, candidate = (others.get(key) for key in ("control", "encoded", "candidate"))
    params = check_params(override_values(common, settings | (UNEVOLVED if encoded is not None else {}), source), source)
    epochs = others.get("times_proxy_epochs", 1) * params.evolve.epochs
    derived: Overrides = {"base.seed": params.base.seed + seed, "evolve.proxy.epochs": epochs}
    if "paper_genes" in others:
        derived["network.n_genes"] = max(2, round(others["paper_genes"] * params.network.width))
    params = check_params(override_values(params.model_dump(), derived, source), source)
    if params.network.n_genes is None and (encoded is not None or control == "narrowed"):
        raise InputError(f"{source}: network.n_genes is null", "set it for a cell that is encoded or narrowed")
    if candidate is not None:
        once = params.model_copy(update={"evolve": params.evolve.model_copy(update={"rescore": None})})
        n = n_candidates(once) if params.scores_candidates and not control else 0
        if candidate >= n:
            raise InputError(f"{source}: candidate = {candidate}", f"the cell has {n} candidates, counted from 0")
    first = None
    if encoded is not None:
        if control or params.train.init_from:
            raise InputError(f"{source}: encoded, and control or train.init_from", "leave out one of the two")
        first = check_params(override_values(params.model_dump(), encoded | PLAIN, source), source)
    return Cell({}, params, (), candidate, others.get("training"), control, first)


def _check_files(params: Params, file: str) -> None:
    """Check that all files that a cell reads are there, so that a long study does not fail halfway."""
    check_module_file(params.network.name)
    load_start(params)
    check_search(params)
    init_from_files(params)
    cfg = params.prepare
    path = Path(cfg.path)
    there = path.is_dir() and (not cfg.is_downloadable or any(entry.is_dir() for entry in path.iterdir()))
    if cfg.reads_path and not there:
        how = ", or download them there with `gee preset use` and `dvc repro prepare`" if cfg.is_downloadable else ""
        problem = f"{file}: prepare.path = {cfg.path}: the images of {cfg.dataset} are not there"
        raise InputError(problem, f"say where with --data FOLDER{how}")


def resolve_cell(cell: Cell, prepared: Path) -> Cell:
    """The cell with its control and key, by the images in the folder ``prepared``.

    Raises:
        InputError: a network cannot be narrowed to the size of the genetic one.
    """
    params, meta = cell.params, load_meta(prepared)
    build_own_network(params, meta)
    full = plain_parameters(params.network, meta)
    if cell.control == "narrowed":
        wanted = count_parameters(wired_network(params.network, meta, None, 0))
        params = _without_genes(cell, {"network.width": find_width(params.network, meta, wanted)})
    elif cell.control == "plain":
        params = _without_genes(cell, {})
    network, key = network_digest(params.network.name), cell_key(cell, params, meta)
    return replace(cell, params=params, prepared=prepared, network=network, full_parameters=full, key=key)


def _without_genes(cell: Cell, changes: Overrides) -> Params:
    return check_params(override_values(cell.params.model_dump(), PLAIN | changes, cell.name), cell.name)

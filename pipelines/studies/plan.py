"""The request for a study, and the cells that the study consists of: every combination of options and seeds.

Every cell is a run of the pipeline, with complete and checked parameters.
"""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from gee_core.config import Params
from gee_core.data.meta import Meta, load_meta
from gee_core.errors import InputError
from gee_core.model.network import count_parameters
from gee_core.model.wired import find_width, plain_parameters, wired_network
from gee_core.storage.atomic_files import sha256
from gee_core.storage.json_object import json_digest
from pipelines.evolve import n_candidates
from pipelines.inputs.init_from import init_from_files
from pipelines.inputs.own_network import build_own_network, check_module_file, network_digest, network_files
from pipelines.inputs.search import check_search, start_files
from pipelines.project.params import Values, check_params, override_values
from pipelines.project.presets import load_preset, preset_names
from pipelines.runtime.run_files import read_record
from pipelines.runtime.run_folder import runs_root
from pipelines.studies.definition import STUDIES, Change, Overrides, Study

UNEVOLVED: Overrides = {"evolve.variant": "analytic", "evolve.start": "analytic"}
"""Spares a cell the search for a wiring that it does not start at."""

PLAIN: Overrides = {"network.n_genes": None, **UNEVOLVED}
"""Turns a genetic network into the plain one."""


@dataclass(frozen=True)
class Request:
    """The arguments of `gee study run`. None keeps the value of the study's file."""

    name: str
    preset: str | None = None
    data: str | None = None
    """Replaces `prepare.path`."""
    seeds: int | None = None
    """Number of seeds."""
    overrides: Overrides = field(default_factory=dict)
    """Changes of every cell."""
    only: dict[str, set[str]] = field(default_factory=dict)
    """Labels of the cells to keep, by column."""

    def options(self) -> list[str]:
        """The options of `gee study run`, as words."""
        given: list[tuple[str, str | int | None]] = [("--preset", self.preset), ("--data", self.data), ("--seeds", self.seeds)]
        given += [("--set", f"{key}={json.dumps(value, ensure_ascii=False)}") for key, value in self.overrides.items()]
        given += [("--only", f"{column}={label}") for column, labels in self.only.items() for label in sorted(labels)]
        return [str(word) for option, value in given if value is not None for word in (option, value)]

    @property
    def folder(self) -> Path:
        """Where its tables go, below reports/studies: a request with changes or a choice of cells is a trial."""
        options = Request(self.name, overrides=self.overrides, only=self.only).options()[1::2]
        words, digest = re.sub(r"[^\w.=-]+", "-", "_".join(options))[:60], json_digest({"options": options})[:6]
        return Path(self.name, "trials", f"{words}-{digest}") if options else Path(self.name)

    def command(self) -> str:
        """The command that repeats the request."""
        return shlex.join(["gee", "study", "run", self.name, *self.options()])


class CellResult(NamedTuple):
    """The answer of a cell."""

    status: str
    """`ok`, or why it failed."""
    metrics: dict[str, float]
    commit: str | None = None
    """Of the code that measured it."""


@dataclass(frozen=True)
class Cell:
    """One run of the pipeline."""

    columns: dict[str, str]
    """Its labels, by column."""
    params: Params
    stages: tuple[str, ...]
    """The stages after train that it runs."""
    candidate: int | None = None
    """The candidate of evolve to train in full, instead of the winner."""
    training: int | None = None
    """The number of a full training, from 1. Each has a seed. None trains with the seed of the search."""
    control: str | None = None
    encoded: Params | None = None
    """The parameters of the plain network that is trained first, for genes of its weights to start at."""
    prepared: Path = Path()
    """The folder with its prepared images."""
    network: str = ""
    """The `network_digest` of its network when the study began."""
    full_parameters: int = 0
    """Parameters of the plain network at the width of the genetic one."""
    key: str = ""
    """Identifies its result: the `cell_key`."""

    @property
    def name(self) -> str:
        """Its labels and seed, for messages."""
        return f"{spell_out(self.columns)}, seed {self.params.base.seed}"

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return runs_root() / f"cell-{self.key}"

    def read_result(self) -> CellResult | None:
        """The result in its folder, or None."""
        record = read_record(self.folder)
        return CellResult(**record.result) if record and record.status == "FINISHED" else None


def spell_out(columns: dict[str, str]) -> str:
    """Labels by column, for messages."""
    return ", ".join(f"{column} = {label}" for column, label in columns.items())


def cell_key(cell: Cell, params: Params, meta: Meta) -> str:
    """16 hexadecimal digits of everything that influences the result of ``cell`` with ``params``, and of nothing else.

    The key leaves out the code, so that an edit invalidates no results: each names its commit. It leaves out the source of the
    images, and `evolve` of a plain network that is not searched. Files that the sections name count by their content.
    """
    evolved = params.scores_candidates
    sections = ["base", "network", *(["evolve"] if evolved else []), "train", *cell.stages]
    values: dict[str, object] = {name: getattr(params, name).model_dump() for name in sections}
    values |= {"images": meta.model_dump(exclude={"source"}), "candidate": cell.candidate}
    if cell.encoded is not None:
        values["encoded"] = cell.encoded.model_dump(include={"base", "network", "train"})
    if cell.training is not None:
        values["training"] = cell.training
    starts = start_files(params) if evolved else []
    if files := [*starts, *init_from_files(params), *network_files(params.network.name)]:
        values["files"] = [sha256(path) for path in files]
    return json_digest(values)


def draft_cells(study: Study, request: Request) -> list[Cell]:
    """Every cell that ``request`` asks for, with checked parameters; `resolve_cell` adds what depends on the images.

    Raises:
        InputError: a preset, setting, label or file is unknown, or a value is invalid; names file and value.
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
    for cell in cells:  # so that a long study does not fail halfway
        check_module_file(cell.params.network.name)
        check_search(cell.params)
        init_from_files(cell.params)
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


def _draft_cell(common: Values, changes: Sequence[Change], seed: int, source: str) -> Cell:
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

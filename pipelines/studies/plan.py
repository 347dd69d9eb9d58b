"""From a study to its cells: every combination of options and seeds as whole, checked parameters."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from gee_core.config import Params
from gee_core.data.prepared import Meta, load_meta
from gee_core.errors import InputError
from gee_core.model.match_width import narrowed_width
from gee_core.model.network import count_parameters
from gee_core.model.wired import plain_parameters, wired_network
from pipelines.inputs.init_checkpoint import init_from_files
from pipelines.inputs.start_genotype import load_start
from pipelines.project.params import DOWNLOADED, check_params
from pipelines.project.presets import preset_names, preset_text
from pipelines.project.safe_yaml import parse_yaml
from pipelines.studies.definition import STUDIES, ExplicitCell, Option, Overrides, Study
from pipelines.studies.keys import cell_key

CANDIDATE, EPOCHS = "candidate", "E"
"""Columns of the cells of an analysis by Kendall's τ."""


@dataclass(frozen=True)
class Cell:
    """One run of the pipeline."""

    part: str
    """`grid`, or the kind of the analysis that it belongs to."""
    columns: dict[str, str]
    """Its labels, by column."""
    params: Params
    stages: tuple[str, ...]
    """The stages after train that it runs."""
    candidate: int | None = None
    """Train this candidate of evolve in full, not the winner."""
    control: str | None = None
    prepared: Path = Path()
    """Its prepared images."""
    full_parameters: int = 0
    """Parameters of the network unencoded, at the width of the genetic one."""
    key: str = ""
    """Names its result: a hash of everything that influences it."""

    @property
    def name(self) -> str:
        """For people."""
        return ", ".join([*(f"{column} = {label}" for column, label in self.columns.items()), f"seed {self.params.base.seed}"])


def draft_cells(
    name: str,
    study: Study,
    preset: str | None = None,
    data: str | None = None,
    seeds: int | None = None,
    overrides: Overrides | None = None,
    only: dict[str, set[str]] | None = None,
) -> list[Cell]:
    """Every cell of the study ``name`` with checked parameters; `resolve_cells` adds what needs the images.

    Args:
        name: of the study, for messages.
        study: what is to be run.
        preset: replaces the study's.
        data: replaces `prepare.path`.
        seeds: replaces the number of seeds.
        overrides: values by `section.key`, changed in every cell.
        only: labels to keep, by column; None keeps all.

    Raises:
        InputError: a preset or key is unknown, a value is refused, or images are not on disk; names file, key and value.
    """
    file, preset, overrides = STUDIES / f"{name}.yaml", preset or study.preset, overrides or {}
    for known in (study.preset, *study.presets):
        if known not in preset_names():
            raise InputError(f"{file}: unknown preset {known!r}: choose one of {', '.join(preset_names())}")
    base = parse_yaml(preset_text(preset, data))
    n_seeds = study.seeds if seeds is None else seeds
    if n_seeds < 1:
        raise InputError(f"--seeds {n_seeds}: must be at least 1")
    common = study.set | study.presets.get(preset, {})
    varied = {key for option in _all_options(study) for key in option.set}
    if clash := varied & set(overrides):
        raise InputError(f"--set {min(clash)}: the study varies this key: change it in {file}")
    base = _overridden(_overridden(base, common, str(file)), overrides, "--set")
    cells = [cell for options in _combinations(study) for cell in _cells(study, base, options, n_seeds, str(file))]
    cells = _only(cells, only or {})
    cells += _analysis_cells(study, base, n_seeds, str(file))
    for cell in cells:
        _check_files(cell, file)
    return cells


def _only(cells: list[Cell], only: dict[str, set[str]]) -> list[Cell]:
    for column, labels in only.items():
        known = list(dict.fromkeys(cell.columns[column] for cell in cells if column in cell.columns))
        if not known:
            columns = dict.fromkeys(name for cell in cells for name in cell.columns)
            raise InputError(f"--only {column}=…: the study has no such column: choose one of {', '.join(columns)}")
        if unknown := labels - set(known):
            raise InputError(f"--only {column}={min(unknown)}: no such label left: choose one of {', '.join(known)}")
        cells = [cell for cell in cells if cell.columns.get(column) in labels]
    return cells


def resolve_cells(cells: list[Cell], prepare: Callable[[Params], Path]) -> list[Cell]:
    """The cells with their images, controls and keys; ``prepare`` gives the folder with a cell's prepared images.

    Raises:
        InputError: a network cannot be narrowed to the size of the genetic one.
    """
    return [_resolved(cell, prepare(cell.params)) for cell in cells]


def _resolved(cell: Cell, prepared: Path) -> Cell:
    params, meta = cell.params, _meta(prepared)
    full = plain_parameters(params.network, meta)
    if cell.control is not None:
        network = {"n_genes": None}
        if cell.control == "narrowed":
            size = (meta.num_classes, meta.in_channels, meta.image_size)
            try:
                network["width"] = narrowed_width(params.network.name, *size, _genetic_parameters(params.network, meta))
            except InputError as error:
                raise InputError(f"{cell.name}: {error}") from None
        values = params.model_dump()
        values["network"] |= network
        values["evolve"] |= {"variant": "analytic"}
        params = Params.model_validate(values)
    cell = replace(cell, params=params, prepared=prepared, full_parameters=full)
    return replace(cell, key=cell_key(params, meta, cell.stages, cell.candidate))


@lru_cache(maxsize=64)
def _meta(prepared: Path) -> Meta:
    return load_meta(prepared)


def _genetic_parameters(network, meta: Meta) -> int:
    return count_parameters(wired_network(network, meta, None, 0))


def _all_options(study: Study) -> Iterable[Option]:
    return [*itertools.chain.from_iterable(study.grid.values()), *study.cells]


def _combinations(study: Study) -> Iterable[list[tuple[dict[str, str], Option]]]:
    """The options of every cell, each with the labels that it gives."""
    columns = [[({name: option.label}, option) for option in options] for name, options in study.grid.items()]
    if columns:
        yield from map(list, itertools.product(*columns))
    for cell in study.cells:
        yield [(cell.columns, cell)]


def _cells(study: Study, base: dict, options: list, n_seeds: int, file: str) -> Iterable[Cell]:
    labels = {column: label for part, _ in options for column, label in part.items()}
    source = f"{file}, {', '.join(f'{column} = {label}' for column, label in labels.items())}"
    values, genes, control, times = base, None, None, 1
    for _, option in options:
        values = _overridden(values, option.set, source)
        genes, control = option.paper_genes or genes, option.control or control
        times *= option.times_proxy_epochs or 1
    if genes is not None:
        width = values["network"]["width"]
        if isinstance(width, int | float):
            values = _overridden(values, {"network.n_genes": max(2, round(genes * width))}, source)
    if times > 1:
        epochs = times * _whole_number(values, "evolve", "proxy_epochs", source)
        values = _overridden(values, {"evolve.proxy_epochs": epochs}, source)
    if control == "narrowed" and values["network"]["n_genes"] is None:
        raise InputError(f"{source}: control = narrowed: network.n_genes is null: set the genes that it is to match")
    first = _whole_number(values, "base", "seed", source)
    for seed in range(first, first + n_seeds):
        params = check_params(_overridden(values, {"base.seed": seed}, source), source)
        yield Cell("grid", labels, params, tuple(study.stages), control=control)


def _analysis_cells(study: Study, base: dict, n_seeds: int, file: str) -> Iterable[Cell]:
    if study.analysis is None:
        return
    analysis, source = study.analysis, f"{file}, analysis"
    base = _overridden(base, analysis.set, source)
    sample = {"evolve.variant": "ste", "evolve.n_generations": 1, "evolve.population_size": analysis.candidates}
    for times in analysis.times_proxy_epochs:
        columns = {EPOCHS: str(times * _whole_number(base, "evolve", "proxy_epochs", source))}
        option = ExplicitCell(columns=columns, set=sample, times_proxy_epochs=times)
        for cell in _cells(study, base, [(option.columns, option)], n_seeds, source):
            for index in range(analysis.candidates):
                columns = cell.columns | {CANDIDATE: str(index)}
                yield replace(cell, part=analysis.kind, columns=columns, candidate=index, stages=("evaluate",))


def _whole_number(values: dict, section: str, key: str, source: str) -> int:
    value = values[section][key]
    if type(value) is not int:
        raise InputError(f"{source}: {section}.{key} = {value!r}: must be a whole number")
    return value


def _overridden(values: dict, overrides: Overrides, source: str) -> dict:
    """``values`` with others by `section.key`; an unknown section or key is for `check_params` to refuse."""
    changed = {section: dict(keys) if isinstance(keys, dict) else keys for section, keys in values.items()}
    for key, value in overrides.items():
        section, dot, name = key.partition(".")
        if not dot or not isinstance(changed.get(section), dict):
            raise InputError(f"{source}: {key} = {value!r}: no such key: write section.key, with a section of params.yaml")
        changed[section][name] = value
    return changed


def _check_files(cell: Cell, file: Path) -> None:
    """All that a cell reads has to be there: a study runs for long, and starts nothing that it could not finish."""
    load_start(cell.params)
    init_from_files(cell.params)
    cfg: Any = cell.params.prepare
    path = Path(cfg.path)
    downloadable = cfg.dataset in DOWNLOADED
    if cfg.dataset == "digits":
        return
    if not path.is_dir() or (downloadable and not any(entry.is_dir() for entry in path.iterdir())):
        how = ", or download them there with `gee preset` and `dvc repro prepare`" if downloadable else ""
        raise InputError(
            f"{file}: prepare.path = {cfg.path}: the images of {cfg.dataset} are not there: say where with --data FOLDER{how}"
        )

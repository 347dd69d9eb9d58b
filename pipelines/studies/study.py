"""A study from its file to its tables and figures in reports/studies/NAME/."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gee_core.data.prepared import load_meta
from gee_core.storage.atomic_files import write_atomically, write_json
from pipelines.engines.select import default_count
from pipelines.project.git import git_commit
from pipelines.project.paths import REPORTS
from pipelines.studies import figures
from pipelines.studies.definition import Overrides, Study, load_study
from pipelines.studies.kendall import FITNESS, kendall_cells, kendall_table, rank_correlations
from pipelines.studies.plan import EPOCHS, Cell, draft_cells, resolve_cells
from pipelines.studies.runner import DONE, read_result, run_cells
from pipelines.studies.steps import forget, prepare_images
from pipelines.studies.tables import aggregate, cells_frame, markdown, markdown_text, shown, with_published
from pipelines.studies.tracking import open_study_tracker

OUT = REPORTS / "studies"


@dataclass(frozen=True)
class Request:
    """What the command asked for."""

    name: str
    preset: str | None = None
    data: str | None = None
    seeds: int | None = None
    overrides: Overrides | None = None
    only: dict[str, set[str]] | None = None

    def command(self) -> str:
        """The command that gives the same results."""
        parts = [f"gee study run {self.name}"]
        given = [("preset", self.preset), ("data", self.data), ("seeds", self.seeds)]
        parts += [f"--{option} {value}" for option, value in given if value is not None]
        parts += [f"--set {key}={json.dumps(value)}" for key, value in (self.overrides or {}).items()]
        parts += [f'--only "{column}={label}"' for column, labels in (self.only or {}).items() for label in sorted(labels)]
        return " ".join(parts)


@dataclass(frozen=True)
class Shown:
    """A table as text."""

    title: str
    headers: list[str]
    rows: list[list[str]]


class Watch:
    """What a run of a study tells its caller; this one listens to nothing."""

    def planned(self, cells: list[Cell], missing: list[Cell], jobs: int | None) -> None:
        """All cells are known and checked; ``missing`` have no result yet; ``jobs=None``: one runs on each worker."""

    def note(self, cell: Cell, note: str) -> None:
        """Where ``cell`` is."""

    def done(self, cell: Cell, result: dict) -> None:
        """``cell`` has a result."""


def plan(request: Request) -> tuple[Study, list[Cell]]:
    """The study and its cells, everything checked; images are prepared where they were not yet.

    Raises:
        InputError: see `draft_cells` and `resolve_cells`.
    """
    study = load_study(request.name)
    drafts = draft_cells(request.name, study, request.preset, request.data, request.seeds, request.overrides, request.only)
    return study, resolve_cells(drafts, _prepare_once())


def run_study(request: Request, jobs: int | None = None, force: bool = False, watch: Watch | None = None) -> list[Shown]:
    """Run what is missing of a study and write its tables and figures; returns the tables.

    Args:
        request: which study, and how it is changed.
        jobs: cells side by side; None for the engine's default. Changes no result.
        force: run cells again that have a result.
        watch: is told how it goes.
    """
    watch = watch or Watch()
    study, cells = plan(request)
    out = OUT / request.name
    folder = out / "cells"
    if force:
        for cell in cells:
            (folder / f"{cell.key}.json").unlink(missing_ok=True)
            forget(cell)
    jobs = jobs or default_count(cell.params.base for cell in cells)
    results = {cell.key: found for cell in cells if (found := read_result(folder, cell.key))}
    watch.planned(cells, [cell for cell in _distinct(cells) if cell.key not in results], jobs)
    tracker = open_study_tracker(request.name, request.preset or study.preset, cells)
    status = "FAILED"
    try:
        for cell in cells:
            if cell.key in results:
                tracker.cell(cell, results[cell.key])

        def on_note(cell: Cell, note: str) -> None:
            if note != DONE:
                watch.note(cell, note)
                return
            results[cell.key] = read_result(folder, cell.key) or {}
            for same in cells:  # cells of one key under several labels share a result
                if same.key == cell.key:
                    tracker.cell(same, results[cell.key])
            watch.done(cell, results[cell.key])

        run_cells(cells, folder, jobs, git_commit(Path.cwd()), on_note)
        tables = write_reports(request, study, cells, results)
        for path in sorted(out.glob("*.*")):
            tracker.artifact(path)
        status = "FINISHED"
        return tables
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        tracker.close(status)


def write_reports(request: Request, study: Study, cells: list[Cell], results: dict[str, dict]) -> list[Shown]:
    """Write cells.csv, table.csv, table.md, study.json and the figures; returns the tables.

    No times, unless the study reports them, so that equal results give equal bytes.
    """
    out = OUT / request.name
    for old in out.glob("*.svg"):
        old.unlink()
    frame = cells_frame(cells, results)
    times = [name for name in ("evolve_seconds", "train_seconds") if name not in study.metrics]
    frame = frame.drop(columns=times, errors="ignore")
    write_atomically(out / "cells.csv", frame.to_csv(index=False))
    grid = frame[frame["part"] == "grid"].dropna(axis="columns", how="all")
    columns = study.columns()
    table = with_published(aggregate(grid, columns, study.metrics), study)
    write_atomically(out / "table.csv", table.to_csv(index=False))
    tables = [Shown(study.title, *shown(table, columns, study.metrics))]
    if study.analysis is not None:
        tables.append(_write_kendall(out, frame, cells))
    text = "\n".join(f"## {markdown_text(part.title)}\n\n{markdown(part.headers, part.rows)}" for part in tables)
    write_atomically(out / "table.md", f"{text}\n`{request.command()}`\n")
    _write_figures(out, study, grid, cells, results)
    write_json(out / "study.json", _about(request, study, cells, results))
    return tables


def _write_kendall(out: Path, frame: pd.DataFrame, cells: list[Cell]) -> Shown:
    candidates = kendall_cells(frame)
    cfg = next(cell.params.evolve for cell in cells if cell.part == "kendall")
    correlations = rank_correlations(candidates, cfg)
    table = kendall_table(correlations)
    write_atomically(out / "kendall_seeds.csv", correlations.to_csv(index=False))
    write_atomically(out / "kendall.csv", table.to_csv(index=False))
    if {"L_ce", "test_accuracy"} <= set(candidates):
        write_atomically(out / "kendall.svg", figures.fitness_against_accuracy(candidates, correlations))
    title = "Kendall's τ between a candidate's fitness after E epochs and its accuracy after full training"
    return Shown(title, *shown(table, [EPOCHS, FITNESS], ["tau"]))


def _write_figures(out: Path, study: Study, grid: pd.DataFrame, cells: list[Cell], results: dict[str, dict]) -> None:
    grid = grid[grid["status"] == "ok"]
    if grid.empty:
        return
    for number, plot in enumerate(study.plots, 1):
        if plot.kind in ("noise", "layers"):
            rows = _rows_of(plot.kind, cells, results)
            write_atomically(out / f"{plot.kind}.csv", rows.to_csv(index=False))
        else:
            rows = grid
        for column, wanted in plot.where.items():
            rows = rows[rows[column] == wanted]
        draw = {"bars": figures.bars, "line": figures.line, "scatter": figures.scatter, "layers": figures.layers}
        figure = figures.noise(rows, plot, study) if plot.kind == "noise" else draw[plot.kind](rows, plot)
        write_atomically(out / f"{number}-{plot.kind}.svg", figure)


def _rows_of(kind: str, cells: list[Cell], results: dict[str, dict]) -> pd.DataFrame:
    """The rows by layer or by noise of all cells, with their labels and `network_seed`."""
    rows = []
    for cell in cells:
        if cell.part == "grid":
            named = cell.columns | {"network_seed": cell.params.base.seed}
            rows += [named | row for row in results[cell.key].get(kind, [])]
    return pd.DataFrame(rows)


def _about(request: Request, study: Study, cells: list[Cell], results: dict[str, dict]) -> dict:
    meta = load_meta(cells[0].prepared)
    distinct = _distinct(cells)
    return {
        "study": request.name,
        "title": study.title,
        "command": request.command(),
        "preset": request.preset or study.preset,
        "dataset": meta.dataset,
        "images": {"train": meta.n_train, "holdout": meta.n_holdout, "test": meta.n_test},
        "seeds": sorted({cell.params.base.seed for cell in cells}),
        "cells": len(distinct),
        "failed": [f"{cell.name}: {results[cell.key]['status']}" for cell in distinct if results[cell.key]["status"] != "ok"],
        "commits": sorted({results[cell.key]["commit"] or "" for cell in cells}),
    }


def _distinct(cells: list[Cell]) -> list[Cell]:
    return list({cell.key: cell for cell in cells}.values())


def _prepare_once() -> Callable:
    """`prepare_images`, which looks at every raw file, once per section `prepare`."""
    known: dict[str, Path] = {}

    def prepare(params) -> Path:
        section = params.prepare.model_dump_json()
        if section not in known:
            known[section] = prepare_images(params.prepare)
        return known[section]

    return prepare

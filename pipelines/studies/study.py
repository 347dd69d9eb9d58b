"""Runs a study, from studies/NAME.yaml to the tables and figures in reports/studies/NAME/."""

import functools
from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd

from gee_core.data.meta import load_meta
from gee_core.storage.atomic_files import write_atomically, write_json
from gee_core.storage.checksummed_json import read_sealed, write_sealed
from pipelines.engines.select import default_count
from pipelines.project.git import git_commit
from pipelines.project.paths import REPORTS, STUDY_STEPS
from pipelines.runtime.file_lock import file_lock
from pipelines.runtime.resume_folder import HELD
from pipelines.stage import closing
from pipelines.studies import figures
from pipelines.studies.cell import Cell, Request, in_words
from pipelines.studies.definition import MEASURED_ROWS, OWN_COLUMNS, Study, load_study
from pipelines.studies.kendall import FITNESS, OF_ACCURACY, OF_FITNESS, OF_SCORE, TRAININGS, rank_correlations, reliability
from pipelines.studies.metrics import METRICS
from pipelines.studies.plan import EPOCHS, TRAINING, draft_cells, resolve_cells
from pipelines.studies.runner import DONE, CellsError, read_result, run_cells
from pipelines.studies.steps import forget, prepare_images
from pipelines.studies.tables import (
    TextTable,
    aggregate,
    cells_frame,
    format_table,
    hardware_table,
    markdown,
    markdown_text,
    with_published,
)
from pipelines.studies.tracking import open_study_tracker
from pipelines.studies.watch import Watch

OUT = REPORTS / "studies"
KENDALL = "kendall"
"""The part of a study's cells that its analysis adds."""


def run_study(
    request: Request,
    jobs: int | None = None,
    force: bool = False,
    watch: Watch | None = None,
    keep: bool = False,
    dry: bool = False,
) -> list[TextTable]:
    """Run the cells of a study that have no result, and write its tables and figures; returns the tables.

    Args:
        request: which study, and how it is changed.
        jobs: cells to run in parallel; None for the engine's default. Changes no result.
        force: run cells that have a result too.
        watch: is told how the run progresses.
        keep: write the trained networks to models/studies/NAME too, and give them to DVC.
        dry: only check the request, prepare its images, and tell ``watch`` which cells would run.

    Raises:
        CellsError: cells have no result; the tables and figures are those of the others.
    """
    watch = watch or Watch()
    study = load_study(request.name)
    cells = resolve_cells(draft_cells(study, request), functools.cache(prepare_images))
    out = OUT / request.name
    folder = out / "cells"
    jobs = jobs or default_count(cell.params.base for cell in cells)
    results = {cell.key: found for cell in cells if not force and (found := read_result(folder, cell.key))}
    watch.planned(cells, [cell for cell in _distinct(cells) if cell.key not in results], jobs)
    if dry:
        return []
    write_sealed(_started(request.name), {"command": request.command(), "cells": [[c.key, in_words(c.columns)] for c in cells]})
    if force:
        for cell in cells:
            (folder / f"{cell.key}.json").unlink(missing_ok=True)
        forget(cells)
    tracker = open_study_tracker(request.name, request.preset or study.preset, cells)
    with closing(tracker):
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

        commit, failure = git_commit(Path.cwd()), None
        try:
            run_cells(cells, folder, jobs, commit, on_note)
        except CellsError as error:
            if not results:
                raise
            failure = error
            for key, reason in error.failed.items():
                results[key] = {"status": " ".join(f"failed: {reason}".split()), "metrics": {}, "commit": commit}
        with file_lock(STUDY_STEPS / "reports" / request.name / HELD):  # another run of the study may be at its end too
            tables = write_reports(request, study, cells, results, watch, failure.failed if failure else ())
            for path in sorted(out.glob("*.*")):
                tracker.artifact(path)
            tracker.note((out / "table.md").read_text(encoding="utf-8"))
        if failure:
            watch.written(out)
            raise failure
    if address := tracker.address():
        watch.tracked(address)
    if keep:
        from pipelines.studies.keep import keep_networks  # loads ONNX

        keep_networks(request.name, [(cell, results[cell.key]) for cell in _distinct(cells)], watch)
    return tables


def last_started(name: str) -> tuple[str, list[str], list[Path]] | None:
    """The command that ran the study ``name`` last, its cells by label, and the files of their results; None if not known."""
    found = read_sealed(_started(name), "command", "cells")
    if found is None:
        return None
    keys, labels = zip(*found["cells"], strict=True)
    return found["command"], list(dict.fromkeys(labels)), [OUT / name / f"cells/{key}.json" for key in dict.fromkeys(keys)]


def _started(name: str) -> Path:
    return STUDY_STEPS / "reports" / name / "started.json"


def write_reports(
    request: Request, study: Study, cells: list[Cell], results: dict[str, dict], watch: Watch, unfinished: Collection[str] = ()
) -> list[TextTable]:
    """Write cells.csv, table.csv, table.md, study.json and the figures; returns the tables.

    Times are left out unless the study reports them, so that equal results give equal bytes. What the request left out has no
    tables; ``watch`` is told what no cell has. The cells with the keys ``unfinished`` are to run again, which table.md says.
    """
    out = OUT / request.name
    for old in [*out.glob("*.svg"), *out.glob("*.csv")]:
        old.unlink()
    frame = cells_frame(cells, results)
    times = [name for name in ("evolve_seconds", "train_seconds") if name not in _shown(study)]
    frame = frame.drop(columns=times, errors="ignore")
    write_atomically(out / "cells.csv", frame.to_csv(index=False))
    grid = frame[frame["part"] == "grid"].dropna(axis="columns", how="all")
    columns = study.columns()  # --only may have left out every cell that has a label in one of them
    grid = grid.assign(**{column: "" for column in columns if column not in grid})
    tables = []
    if len(grid):
        table = with_published(aggregate(grid, columns, study.metrics), study)
        write_atomically(out / "table.csv", table.to_csv(index=False))
        tables.append(format_table(study.title, table, columns, study.metrics))
    if len(candidates := frame[frame["part"] == KENDALL]):
        tables += _write_kendall(out, candidates, cells)
    if study.draws("hardware") and len(hardware := _rows_of("hardware", study, cells, results)):
        tables.append(hardware_table(hardware, columns))
    text = "\n".join(f"## {markdown_text(part.title)}\n\n{markdown(part.headers, part.rows)}" for part in tables)
    write_atomically(out / "table.md", f"{text}\n{_unfinished(cells, unfinished)}`{request.command()}`\n")
    write_json(out / "study.json", _about(request, study, cells, results))
    if len(grid) and (grid["status"] == "ok").any():
        if missing := _without_values(study, grid, cells, results):
            watch.left_out(missing)
        _write_figures(out, study, grid, cells, results, missing)
    return tables


def _write_kendall(out: Path, candidates: pd.DataFrame, cells: list[Cell]) -> list[TextTable]:
    cfg = next(cell.params.evolve for cell in cells if cell.part == KENDALL)
    candidates = candidates.reindex(columns=dict.fromkeys([*candidates, *OF_SCORE, "test_accuracy"]))  # if all of them failed
    correlations = rank_correlations(candidates, cfg)
    table = aggregate(correlations, [EPOCHS, FITNESS], list(OF_FITNESS))
    write_atomically(out / "kendall_seeds.csv", correlations.to_csv(index=False))
    write_atomically(out / "kendall.csv", table.to_csv(index=False))
    if (candidates["status"] == "ok").any():
        write_atomically(out / "kendall.svg", figures.fitness_against_accuracy(candidates, correlations))
    title = "Kendall's τ between a candidate's fitness after E epochs and its accuracy after full training"
    tables = [format_table(title, table, [EPOCHS, FITNESS], list(OF_FITNESS))]
    if TRAINING in candidates and len(repeated := reliability(candidates)):
        table = aggregate(repeated, [TRAININGS], list(OF_ACCURACY))
        write_atomically(out / "reliability.csv", repeated.to_csv(index=False))
        title = "How well a candidate's accuracy can be known: full trainings from fresh draws"
        tables.append(format_table(title, table, [TRAININGS], list(OF_ACCURACY)))
    return tables


def _unfinished(cells: list[Cell], keys: Collection[str]) -> str:
    """A paragraph of table.md on the cells with these ``keys``; nothing if there are none."""
    names = [markdown_text(cell.name) for cell in _distinct(cells) if cell.key in keys]
    if not names:
        return ""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{len(names)} of {len(_distinct(cells))} cells failed: {names[0]}{more}. This command runs them again:\n\n"


def _without_values(study: Study, grid: pd.DataFrame, cells: list[Cell], results: dict[str, dict]) -> list[str]:
    """What the table and the figures should show and no cell has, such as val_accuracy with train.include_holdout."""
    rows = {kind for kind in MEASURED_ROWS if any(results[cell.key].get(kind) for cell in cells if cell.part == "grid")}
    return [name for name in _shown(study) if name not in grid and name not in rows]


def _shown(study: Study) -> list[str]:
    """The metrics of the table, then what the figures draw."""
    return list(dict.fromkeys([*study.metrics, *(name for plot in study.plots for name in plot.measured())]))


def _write_figures(
    out: Path, study: Study, grid: pd.DataFrame, cells: list[Cell], results: dict[str, dict], missing: list[str]
) -> None:
    known = (*study.columns(), *OWN_COLUMNS, *METRICS)
    grid = grid.loc[grid["status"] == "ok", [column for column in grid if column in known]]  # figures take others for labels
    for number, plot in enumerate(study.plots, 1):
        if not plot.measured().keys().isdisjoint(missing):
            continue
        rows = grid
        if plot.kind in MEASURED_ROWS:
            rows = _rows_of(plot.kind, study, cells, results)
            write_atomically(out / f"{plot.kind}.csv", rows.to_csv(index=False))
        for column, wanted in plot.where.items():
            rows = rows[rows[column] == wanted]
        if rows.empty:  # --only left out what it draws, or all of it failed
            continue
        published = [study.published] if plot.kind == "noise" else []
        figure = getattr(figures, plot.kind)(rows, plot, *published)
        write_atomically(out / f"{number}-{plot.kind}.svg", figure)


def _rows_of(kind: str, study: Study, cells: list[Cell], results: dict[str, dict]) -> pd.DataFrame:
    """The rows by layer, noise or defect of all cells, with their labels and `network_seed`."""
    rows = []
    for cell in cells:
        if cell.part == "grid":
            named = dict.fromkeys(study.columns(), "") | cell.columns | {"network_seed": cell.params.base.seed}
            rows += [named | row for row in results[cell.key].get(kind, [])]
    return pd.DataFrame(rows)


def _about(request: Request, study: Study, cells: list[Cell], results: dict[str, dict]) -> dict:
    metas = [load_meta(prepared) for prepared in dict.fromkeys(cell.prepared for cell in cells)]
    distinct = _distinct(cells)
    return {
        "study": request.name,
        "title": study.title,
        "command": request.command(),
        "preset": request.preset or study.preset,
        "dataset": _one_or_all(meta.dataset for meta in metas),
        "images": {
            "train": _one_or_all(meta.n_train for meta in metas),
            "holdout": _one_or_all(meta.n_holdout for meta in metas),
            "test": _one_or_all(meta.n_test for meta in metas),
        },
        "seeds": sorted({cell.params.base.seed for cell in cells}),
        "cells": len(distinct),
        "failed": [f"{cell.name}: {results[cell.key]['status']}" for cell in distinct if results[cell.key]["status"] != "ok"],
        "commits": sorted({results[cell.key]["commit"] or "" for cell in cells}),
    }


def _one_or_all(values: Iterable[str | int]) -> str | int | list[str | int]:
    """The value that is the same in all cells, or the distinct ones in order of appearance."""
    found = list(dict.fromkeys(values))
    return found[0] if len(found) == 1 else found


def _distinct(cells: list[Cell]) -> list[Cell]:
    return list({cell.key: cell for cell in cells}.values())

"""Runs cells in parallel on an engine, and writes each result as soon as it is complete."""

import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gee_core.errors import InputError, in_short, place_in, raises
from gee_core.memory import out_of_memory
from gee_core.storage.json_object import json_digest, read_sealed, write_sealed
from pipelines.engines.engine import WorkerDied, leave_if_lost_gpu, run_each
from pipelines.engines.select import choose_engine
from pipelines.project.paths import NETWORKS
from pipelines.runtime.input_errors import user_message
from pipelines.runtime.resume_folder import CHECKOUT
from pipelines.runtime.worker_process import Tell
from pipelines.studies.cell import Cell, CellResult
from pipelines.studies.steps import run_cell

OnNote = Callable[[Cell, str], None]
"""Receives a cell and the step that it is at."""
OnDone = Callable[[Cell, CellResult], None]
"""Receives a cell and its result, which has been written."""


class CellsError(InputError):
    """Cells without a result: their errors, by name in the message, and by key in ``failed``."""

    def __init__(self, failed: dict[str, InputError], names: dict[str, str]):
        cells = defaultdict(list)
        for key in [key for key in names if key in failed]:
            cells[str(failed[key])].append(names[key])
        more = {error: f" and {len(found) - 1} more" if len(found) > 1 else "" for error, found in cells.items()}
        super().__init__("\n".join(f"the cell {found[0]}{more[error]}: {error}" for error, found in cells.items()))
        self.failed = failed


def read_result(folder: Path, key: str) -> CellResult | None:
    """The result of the cell ``key``, or None; a damaged result is deleted with a warning."""
    found: Any = read_sealed(_file(folder, key), "status", "metrics", "commit")
    return found


def run_cells(cells: list[Cell], folder: Path, jobs: int | None, commit: str | None, on_note: OnNote, on_done: OnDone) -> None:
    """Run the cells that have no result in ``folder``, ``jobs`` in parallel; results do not depend on jobs or engine.

    Raises:
        CellsError: these cells failed, or their workers died every time; the other cells have their results.
    """
    folder = folder.absolute()
    missing = {cell.key: cell for cell in cells if read_result(folder, cell.key) is None}
    units = _units(list(missing.values()))
    died = InputError("the worker died every time (out of memory?)", "run the study again with --jobs 1")
    failed: dict[str, InputError] = {}
    if not units:
        return
    images, bases = [cell.prepared for cell in missing.values()], [cell.params.base for cell in missing.values()]
    with choose_engine(jobs and min(jobs, len(units)), 1, images, bases, isolated=False) as engine:
        run = functools.partial(_run_unit, folder, commit)
        for unit, found in run_each(engine, run, units, lambda note: on_note(missing[note[0]], note[1])):
            results = {} if isinstance(found, WorkerDied) else found
            for cell in unit:
                result = results.get(cell.key) or read_result(folder, cell.key) or died
                if isinstance(result, InputError):
                    failed[cell.key] = result
                    on_note(cell, f"failed: {result}")
                    continue
                if not _file(folder, cell.key).is_file():  # the worker wrote it to a file system of its own
                    write_sealed(_file(folder, cell.key), dict(result))
                on_done(cell, result)
    if failed:
        raise CellsError(failed, {key: cell.name for key, cell in missing.items()})


def _units(cells: list[Cell]) -> list[list[Cell]]:
    """Cells grouped by the network that they train, so that no process waits for another; different evolutions first."""
    units: dict[str, list[Cell]] = {}
    for cell in cells:
        units.setdefault(_step_key(cell, "train", candidate=cell.candidate, training=cell.training), []).append(cell)
    ranks: dict[str, Iterator[int]] = defaultdict(itertools.count)
    return sorted(units.values(), key=lambda unit: next(ranks[_step_key(unit[0])]))


def _step_key(cell: Cell, *more: str, **extra: int | None) -> str:
    sections = {name: getattr(cell.params, name).model_dump() for name in ("base", "network", "evolve", *more)}
    return json_digest(sections | extra | {"images": str(cell.prepared)})


def _run_unit(folder: Path, commit: str | None, unit: list[Cell], tell: Tell) -> dict[str, CellResult | InputError]:
    """The result or the error of each cell by its key."""
    return {cell.key: _result_of(folder, commit, cell, tell) for cell in unit}


def _result_of(folder: Path, commit: str | None, cell: Cell, tell: Tell) -> CellResult | InputError:
    """The result of ``cell``, read from ``folder`` or computed and written there."""
    if known := read_result(folder, cell.key):
        return known
    try:
        measured = run_cell(cell, lambda note: tell((cell.key, note)))
        result = CellResult(key=cell.key, seed=cell.params.base.seed, commit=commit, status="ok", metrics={}) | measured
        result["params"] = cell.params.model_dump()
        write_sealed(_file(folder, cell.key), dict(result))
        return result
    except Exception as error:
        leave_if_lost_gpu(error, cell.name)
        return _failure(error)


def _failure(error: Exception) -> InputError:
    """``error`` of a cell with what to do about it, without its traceback, which would hold the tensors of the cell."""
    if isinstance(error, InputError):
        return InputError(error.problem, error.remedy)
    if out_of_memory(error):
        return InputError(f"out of memory ({in_short(error, 120)})", "run the study again with --jobs 1 or a smaller batch")
    if message := user_message(error):
        return InputError(message)
    place = place_in((NETWORKS, CHECKOUT / "gee_core", CHECKOUT / "pipelines"), error)
    where = f"{place[0].parent.name}/{place[0].name}, {place[1]}" if place else "a library"
    return InputError(f"{where} {raises(error)}", "mend it and run the study again")


def _file(folder: Path, key: str) -> Path:
    return folder / f"{key}.json"

"""Runs a study, from studies/NAME.yaml to the tables and figures in reports/studies/NAME/."""

import functools
import itertools
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gee_core.errors import InputError, place_in, raises
from gee_core.storage.json_object import write_sealed
from pipelines.engines.engine import Tell, WorkerDied, leave_if_lost_gpu, run_each
from pipelines.engines.select import choose_engine, default_count
from pipelines.inputs.loading import prepared_images
from pipelines.project.git import git_commit
from pipelines.project.paths import MODELS, NETWORKS
from pipelines.runtime.input_errors import known_message
from pipelines.runtime.process_tree import followed
from pipelines.runtime.resume_folder import CHECKOUT
from pipelines.stage import closing
from pipelines.studies.cell import Cell, CellResult, Request, distinct, read_result
from pipelines.studies.definition import Study, load_study
from pipelines.studies.display import TRACKED, Display
from pipelines.studies.plan import draft_cells, resolve_cell
from pipelines.studies.reports import OUT, TextTable, write_reports
from pipelines.studies.steps import NETWORK, prepare_images, run_cell, train_cell
from pipelines.studies.tracking import open_study_tracker
from pipelines.tracking.tags import NOTE

KEPT = MODELS / "studies"


@dataclass(frozen=True)
class Plan:
    """A study whose cells are known and whose images are prepared."""

    study: Study
    cells: list[Cell]
    results: dict[str, CellResult]
    """Those that need not be computed, by the key of their cell."""
    missing: list[Cell]
    """The cells that would run."""
    jobs: int | None
    """Cells to run in parallel; None for one on each worker."""


def plan_study(request: Request, jobs: int | None = None, force: bool = False) -> Plan:
    """Check the request and prepare its images; the arguments are those of `run_study`."""
    study = load_study(request.name)
    prepared = functools.cache(prepare_images)
    cells = [resolve_cell(cell, prepared(cell.params.prepare)) for cell in draft_cells(study, request)]
    folder = OUT / request.name / "cells"
    results = {cell.key: result for cell in cells if not force and (result := read_result(folder, cell.key))}
    missing = [cell for cell in distinct(cells) if cell.key not in results]
    return Plan(study, cells, results, missing, jobs or default_count(cell.params.base for cell in cells))


def run_study(
    request: Request, watch: Display, jobs: int | None = None, force: bool = False, keep: bool = False
) -> list[TextTable]:
    """Run the cells of a study that have no result, and write its tables and figures; returns the tables.

    Args:
        request: the study and its changes.
        watch: shows the progress.
        jobs: cells to run in parallel; None for the engine's default. Changes no result.
        force: drop the results of these cells first.
        keep: copy the trained networks to models/studies/NAME too, and give them to DVC.

    Raises:
        InputError: cells have no result; the tables and figures are those of the others.
    """
    plan = plan_study(request, jobs, force)
    cells, results, out = plan.cells, plan.results, OUT / request.folder
    kept = OUT / request.name / "cells"  # trials share results with the study
    watch.planned(cells, plan.missing, plan.jobs)
    for cell in plan.missing:
        (kept / f"{cell.key}.json").unlink(missing_ok=True)
    tracker = open_study_tracker(request.name, request.preset or plan.study.preset, cells)
    with closing(tracker):
        for cell in cells:
            if cell.key in results:
                tracker.cell(cell, results[cell.key])

        def on_done(cell: Cell, result: CellResult) -> None:
            results[cell.key] = result
            for same in cells:  # cells of one key under several labels share a result
                if same.key == cell.key:
                    tracker.cell(same, result)
            watch.done(cell, result)

        commit = git_commit(Path.cwd())
        failed = run_cells(plan.missing, kept, plan.jobs, commit, watch.note, on_done)
        if failed and not results:
            raise cells_error(cells, failed)
        for key, reason in failed.items():
            results[key] = {"status": " ".join(f"failed: {reason}".split()), "metrics": {}, "commit": commit}
        tables = write_reports(request, plan.study, cells, results)
        for path in sorted(out.glob("*.*")):
            tracker.artifact(path)
        tracker.tags({NOTE: (out / "table.md").read_text(encoding="utf-8")})
        if failed:
            watch.say(f"tables of the finished cells  {out.resolve()}")
            raise cells_error(cells, failed)
    if tracker.address:
        watch.say(f"{TRACKED}{tracker.address}")
    if keep:
        keep_networks(request.name, cells, results, watch)
    return tables


def keep_networks(study: str, cells: list[Cell], results: dict[str, CellResult], watch: Display) -> None:
    """Copy the trained network of every cell to a folder in models/studies/STUDY/, and give STUDY/ to DVC.

    Candidates of a search and cells that failed have none.
    """
    for cell in distinct(cells):
        if cell.candidate is None and results[cell.key]["status"] == "ok":
            labels = re.sub(r"[^\w.=-]+", "-", "-".join(cell.columns.values()))[:60]
            folder = KEPT / study / f"{labels}-seed{cell.params.base.seed}-{cell.key[:8]}"
            folder.mkdir(parents=True, exist_ok=True)
            trained = train_cell(cell, prepared_images(cell.prepared), functools.partial(watch.note, cell)).folder
            for path in (*trained.glob(f"{Path(NETWORK).stem}.*"), cell.prepared / "meta.json"):
                shutil.copy(path, folder)
            write_sealed(folder / "result.json", dict(results[cell.key]))
            watch.say(f"kept  {folder}")
    if not (KEPT / study).is_dir():
        return
    command = ["dvc", "--wait-for-lock", "add", str(KEPT / study)]
    with followed([sys.executable, "-m", *command]) as process:
        output = process.communicate()[0]
    if process.returncode:
        raise InputError(f"`{' '.join(command)}`: {output[-500:].strip()}", "mend it and give that command again")


def run_cells(
    cells: list[Cell],
    folder: Path,
    jobs: int | None,
    commit: str | None,
    on_note: Callable[[Cell, str], None],
    on_done: Callable[[Cell, CellResult], None],
) -> dict[str, str]:
    """Run ``cells``, ``jobs`` in parallel; results do not depend on jobs or engine. ``on_done`` gets each written result.

    Returns:
        The errors of the cells that failed or whose workers died every time, by key; the other cells have their results.
    """
    by_key, failed = {cell.key: cell for cell in cells}, dict[str, str]()
    if not cells:
        return failed
    images, bases = [cell.prepared for cell in cells], [cell.params.base for cell in cells]
    with choose_engine(jobs and min(jobs, len(cells)), 1, images, bases, isolated=False) as engine:
        for cell, outcome in run_each(engine, _run_job, _apart(cells), lambda note: on_note(by_key[note[0]], note[1])):
            if isinstance(outcome, WorkerDied):
                outcome = "the worker died every time (out of memory?): run the study again with --jobs 1"
            if isinstance(outcome, str):
                failed[cell.key] = outcome
                on_note(cell, f"failed: {outcome}")
                continue
            result = CellResult(key=cell.key, seed=cell.params.base.seed, commit=commit, status="ok", metrics={}) | outcome
            result["params"] = cell.params.model_dump()
            write_sealed(folder / f"{cell.key}.json", dict(result))
            on_done(cell, result)
    return failed


def cells_error(cells: list[Cell], failed: dict[str, str]) -> InputError:
    """One line per error of the ``failed`` cells, with the first cell that has it."""
    names: dict[str, list[str]] = defaultdict(list)
    for cell in distinct(cells):
        if cell.key in failed:
            names[failed[cell.key]].append(cell.name)
    more = {error: f" and {len(cells) - 1} more" if len(cells) > 1 else "" for error, cells in names.items()}
    return InputError("\n".join(f"the cell {cells[0]}{more[error]}: {error}" for error, cells in names.items()))


def _apart(cells: list[Cell]) -> list[Cell]:
    """``cells`` in another order: those that share a training run or a search are far apart, since they wait for each other."""
    ranks: dict[str, Iterator[int]] = defaultdict(itertools.count)

    def rank(cell: Cell) -> list[int]:
        searched = [cell.params.base, cell.params.network, cell.params.evolve]
        search = str(cell.prepared) + "".join(section.model_dump_json() for section in searched)
        training = f"{search}{cell.params.train.model_dump_json()} {cell.candidate} {cell.training}"
        return [next(ranks[shared]) for shared in (training, search)]

    return sorted(cells, key=rank)


def _run_job(cell: Cell, tell: Tell) -> CellResult | str:
    """The result of a cell, or its error."""
    try:
        return run_cell(cell, lambda note: tell((cell.key, note)))
    except Exception as error:
        leave_if_lost_gpu(error, cell.name)
        return known_message(error) or _named(error)


def _named(error: Exception) -> str:
    """The exception of a bug in our code or in an own network, and its line. A traceback would hold the tensors of the cell."""
    place = place_in((NETWORKS, CHECKOUT / "gee_core", CHECKOUT / "pipelines"), error)
    where = f"{place[0].parent.name}/{place[0].name}, {place[1]}" if place else "a library"
    return f"{where} {raises(error)}: mend it and run the study again"

"""Runs a study, from studies/NAME.yaml to the tables and figures in reports/studies/NAME/."""

import functools
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path

from gee_core.errors import InputError, place_in, raises
from gee_core.storage.json_object import write_sealed
from pipelines.engines.pools import leave_if_lost_gpu, run_each
from pipelines.engines.select import default_count, open_pool
from pipelines.inputs.loading import prepared_images
from pipelines.project.git import git_commit
from pipelines.project.paths import MODELS, NETWORKS
from pipelines.runtime.input_errors import known_message
from pipelines.runtime.process_tree import followed
from pipelines.runtime.progress import console, progress
from pipelines.runtime.resume_folder import CHECKOUT
from pipelines.stage import closing
from pipelines.studies.cell import Cell, CellResult, Request, distinct, read_result
from pipelines.studies.definition import Study, load_study
from pipelines.studies.metrics import METRICS
from pipelines.studies.plan import draft_cells, resolve_cell
from pipelines.studies.reports import OUT, TextTable, write_reports
from pipelines.studies.steps import NETWORK, prepare_images, run_cell, train_cell
from pipelines.studies.tracking import open_study_tracker
from pipelines.tracking.tags import NOTE

KEPT = MODELS / "studies"
TRACKED = "in MLflow  "
"""Comes before the address of the study's run in MLflow."""


def plan_study(study: Study, request: Request, force: bool = False) -> tuple[list[Cell], dict[str, CellResult], list[Cell]]:
    """The cells of a request, the results that there are by key, and the cells to run; prepares the images."""
    prepared = functools.cache(prepare_images)
    cells = [resolve_cell(cell, prepared(cell.params.prepare)) for cell in draft_cells(study, request)]
    folder = OUT / request.name / "cells"
    results = {cell.key: result for cell in cells if not force and (result := read_result(folder, cell.key))}
    return cells, results, [cell for cell in distinct(cells) if cell.key not in results]


def plan_line(cells: list[Cell], missing: list[Cell]) -> str:
    """How many of ``cells`` would run."""
    n = len(distinct(cells))
    return f"{n} cells, {n - len(missing)} of them done; {len(missing)} to run"


def run_study(request: Request, jobs: int | None = None, force: bool = False, keep: bool = False) -> list[TextTable]:
    """Run the cells of a study that have no result, and write its tables and figures; returns the tables.

    Args:
        request: the study and its changes.
        jobs: cells to run in parallel; None for the engine's default. Changes no result.
        force: drop the results of these cells first.
        keep: copy the trained networks to models/studies/NAME too, and give them to DVC.

    Raises:
        InputError: cells have no result; the tables and figures are those of the others.
    """
    study, out, kept = load_study(request.name), OUT / request.folder, OUT / request.name / "cells"  # trials share results
    cells, results, missing = plan_study(study, request, force)
    tracker, failed = open_study_tracker(request.name, request.preset or study.preset, cells), dict[str, str]()
    with closing(tracker), progress("cells", len(missing)) as steps:
        say(plan_line(cells, missing))
        for cell in missing:
            (kept / f"{cell.key}.json").unlink(missing_ok=True)
        for cell in cells:
            if cell.key in results:
                tracker.cell(cell, results[cell.key])
        commit = git_commit(Path.cwd())
        for cell, outcome in run_cells(missing, kept, jobs, commit):
            steps()
            steps.note = ""
            if isinstance(outcome, str):
                failed[cell.key] = f"the cell {cell.name}{{}}: {outcome}"
                results[cell.key] = {"status": " ".join(f"failed: {outcome}".split()), "metrics": {}, "commit": commit}
            else:
                results[cell.key] = outcome
                for same in cells:  # cells of one key under several labels share a result
                    if same.key == cell.key:
                        tracker.cell(same, outcome)
            say(f"{steps.done:.0f}/{steps.total:.0f}  {cell.name}: {_shown(results[cell.key], study.metrics)}")
        if failed.keys() != results.keys():
            tables = write_reports(request, study, cells, results)
            for path in sorted(out.glob("*.*")):
                tracker.artifact(path)
            tracker.tags({NOTE: (out / "table.md").read_text(encoding="utf-8")})
        if failed:
            more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            raise InputError(next(iter(failed.values())).format(more))
    if tracker.address:
        say(f"{TRACKED}{tracker.address}")
    if keep:
        keep_networks(request.name, cells, results)
    return tables


def say(line: str) -> None:
    """Print a line above the bar."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _shown(result: CellResult, metrics: list[str]) -> str:
    """The first of ``metrics`` that a cell has, or why it failed."""
    first = next((name for name in metrics if name in result["metrics"]), None)
    return f"{METRICS[first].header} {METRICS[first].format(result['metrics'][first])}" if first else result["status"]


def keep_networks(study: str, cells: list[Cell], results: dict[str, CellResult]) -> None:
    """Copy the trained network of every cell to a folder in models/studies/STUDY/, and give STUDY/ to DVC.

    Candidates of a search and cells that failed have none.
    """
    for cell in distinct(cells):
        if cell.candidate is None and results[cell.key]["status"] == "ok":
            labels = re.sub(r"[^\w.=-]+", "-", "-".join(cell.columns.values()))[:60]
            folder = KEPT / study / f"{labels}-seed{cell.params.base.seed}-{cell.key[:8]}"
            folder.mkdir(parents=True, exist_ok=True)
            trained, *_ = train_cell(cell, prepared_images(cell.prepared))
            for path in (*trained.glob(f"{Path(NETWORK).stem}.*"), cell.prepared / "meta.json"):
                shutil.copy(path, folder)
            write_sealed(folder / "result.json", dict(results[cell.key]))
            say(f"kept  {folder}")
    if not (KEPT / study).is_dir():
        return
    command = ["dvc", "--wait-for-lock", "add", str(KEPT / study)]
    with followed([sys.executable, "-m", *command]) as process:
        output = process.communicate()[0]
    if process.returncode:
        raise InputError(f"`{' '.join(command)}`: {output[-500:].strip()}", "mend it and give that command again")


def run_cells(cells: list[Cell], folder: Path, jobs: int | None, commit: str | None) -> Iterator[tuple[Cell, CellResult | str]]:
    """Run ``cells``, ``jobs`` in parallel; results do not depend on jobs or pool.

    Yields each cell with its result, which is on disk, or with its error, in order of completion.
    """
    if not cells:
        return
    images, bases, searches = [cell.prepared for cell in cells], [cell.params.base for cell in cells], Counter[str]()
    jobs = jobs or default_count(bases)

    def rank(cell: Cell) -> int:
        searches.update([search := f"{cell.prepared} {cell.params.base!r} {cell.params.network!r} {cell.params.evolve!r}"])
        return searches[search]

    apart = sorted(cells, key=rank)  # cells that share a search or a training wait for each other
    with open_pool(jobs and min(jobs, len(cells)), 1, images, bases, isolated=False) as pool:
        for cell, outcome in run_each(pool, _run_job, apart):
            if isinstance(outcome, BrokenExecutor):
                outcome = "the worker died every time (out of memory?): run the study again with --jobs 1"
            if not isinstance(outcome, str):
                outcome = CellResult(key=cell.key, seed=cell.params.base.seed, commit=commit, status="ok", metrics={}) | outcome
                outcome["params"] = cell.params.model_dump()
                write_sealed(folder / f"{cell.key}.json", dict(outcome))
            yield cell, outcome


def _run_job(cell: Cell) -> CellResult | str:
    """The result of a cell, or its error. That of a bug in our code or in an own network has its line, but no traceback."""
    try:
        return run_cell(cell)
    except Exception as error:
        leave_if_lost_gpu(error, cell.name)
        place = place_in((NETWORKS, CHECKOUT / "gee_core", CHECKOUT / "pipelines"), error)
        where = f"{place[0].parent.name}/{place[0].name}, {place[1]}" if place else "a library"
        return known_message(error) or f"{where} {raises(error)}: mend it and run the study again"

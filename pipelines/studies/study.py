"""Runs a study, from studies/NAME.yaml to the tables and figures in reports/studies/NAME/."""

import functools
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path

from gee_core.errors import InputError, place_in, raises
from gee_core.storage.atomic_files import write_json
from gee_core.storage.json_object import json_digest
from pipelines.engines.pools import leave_if_lost_gpu, run_each
from pipelines.engines.select import default_count, open_pool
from pipelines.inputs.loading import prepared_images
from pipelines.project.git import git_commit
from pipelines.project.paths import MODELS, NETWORKS
from pipelines.runtime.input_errors import known_message
from pipelines.runtime.process_tree import followed
from pipelines.runtime.progress import console, progress
from pipelines.runtime.run_files import RUN, Child, as_texts, now_ms
from pipelines.runtime.run_folder import CHECKOUT, RunFolder, once
from pipelines.stage import closing
from pipelines.studies.definition import Study, load_study
from pipelines.studies.metrics import METRICS
from pipelines.studies.plan import Cell, CellResult, Request, draft_cells, resolve_cell
from pipelines.studies.reports import OUT, write_reports
from pipelines.studies.steps import NETWORK, prepare_images, run_cell, train_cell
from pipelines.tracking.pipeline_run import filter_keys, flattened
from pipelines.tracking.tags import COMMIT, ERROR, NOTE
from pipelines.tracking.tracker import open_study

KEPT = MODELS / "studies"
TRACKED = "in MLflow  "
"""Comes before the address of the study's run in MLflow."""
Plan = tuple[list[Cell], dict[str, CellResult], list[Cell]]
"""The cells of a request, the results that there are by key, and the cells to run: one of each key."""


def plan_study(study: Study, request: Request, force: bool = False) -> Plan:
    """The plan of a request; prepares the images."""
    prepared = functools.cache(prepare_images)
    cells = [resolve_cell(cell, prepared(cell.params.prepare)) for cell in draft_cells(study, request)]
    results = {cell.key: result for cell in cells if not force and (result := cell.read_result())}
    missing = {cell.key: cell for cell in cells if cell.key not in results}
    return cells, results, list(missing.values())


def describe_plan(cells: list[Cell], missing: list[Cell]) -> str:
    """How many of ``cells`` would run."""
    n = len({cell.key for cell in cells})
    return f"{n} cells, {n - len(missing)} of them done; {len(missing)} to run"


def run_study(request: Request, jobs: int | None = None, force: bool = False, keep: bool = False) -> str:
    """Run the cells of a study that have no result, and write its table and figures; returns the table in Markdown.

    Args:
        request: the study and its changes.
        jobs: cells to run in parallel; None for the pool's default. Changes no result.
        force: drop the results of these cells first.
        keep: copy the trained networks to models/studies/NAME too, and give them to DVC.

    Raises:
        InputError: cells have no result; the tables and figures are those of the others.
    """
    study, out = load_study(request.name), OUT / request.folder
    cells, results, missing = plan_study(study, request, force)
    failed, commit = dict[str, str](), git_commit(Path.cwd())
    key = json_digest({"study": request.name, "cells": sorted(cell.key for cell in cells)})
    about = {"study": request.name, "preset": request.preset or study.preset}
    tracked = open_study(key, f"study {request.name}", about)
    with closing(tracked), progress("cells", len(missing)) as steps:
        say(describe_plan(cells, missing))
        for cell in missing:
            (cell.folder / RUN).unlink(missing_ok=True)
        track_cells(tracked.run, [cell for cell in cells if cell.key in results], results)
        for cell, outcome in run_cells(missing, jobs, commit):
            steps()
            if isinstance(outcome, str):
                failed[cell.name] = outcome
                results[cell.key] = CellResult(" ".join(f"failed: {outcome}".split()), {}, commit)
            else:
                results[cell.key] = outcome
                track_cells(tracked.run, [same for same in cells if same.key == cell.key], results)
            done = results[cell.key]
            first = next((name for name in study.metrics if name in done.metrics), None)
            told = f"{METRICS[first].header} {METRICS[first].format(done.metrics[first])}" if first else done.status
            say(f"{steps.done:.0f}/{steps.total:.0f}  {cell.name}: {told}")
        if len(failed) < len(results):
            table = write_reports(request, study, cells, results)
            for path in sorted(out.glob("*.*")):
                tracked.run.artifact(path)
            tracked.run.note(tags={NOTE: table})
        if failed:
            name, why = next(iter(failed.items()))
            others = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            raise InputError(f"the cell {name}{others}: {why}")
    if tracked.address:
        say(f"{TRACKED}{tracked.address}")
    if keep:
        keep_networks(request.name, cells, results)
    return table


def track_cells(study: RunFolder, cells: list[Cell], results: dict[str, CellResult]) -> None:
    """Add a run with labels, parameters and metrics for each of ``cells`` below the study's, unless one of its commit is there.

    It lasts as long as the evolution and the training of the cell did, also where other cells share these. A label in a column
    with the name of a parameter, such as `network`, stands next to that one as `column.network`.
    """
    for cell in cells:
        status, metrics, commit = results[cell.key]
        params = flattened(cell.params.model_dump()) | filter_keys(cell.params)
        labels = {f"column.{name}" if name in params else name: label for name, label in cell.columns.items()}
        tags = {"status": status[:500], "commit": commit or ""} | ({COMMIT: commit} if commit else {})
        now = now_ms()
        child = Child(
            child=json_digest({"key": cell.key, "columns": cell.columns, "commit": commit}),
            level="cell",
            name=", ".join([*cell.columns.values(), f"seed {cell.params.base.seed}"]),
            params=study.record.params | as_texts(params | labels),
            tags=tags if status == "ok" else tags | {ERROR: status[:500]},
            metrics=metrics,
            start=now - round(1000 * (metrics.get("evolve_seconds", 0.0) + metrics.get("train_seconds", 0.0))),
            time=now,
            status="FINISHED" if status == "ok" else "FAILED",
        )
        study.child(child)


def say(line: str) -> None:
    """Print a line above the bar."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def keep_networks(study: str, cells: list[Cell], results: dict[str, CellResult]) -> None:
    """Copy the trained network of every cell to a folder in models/studies/STUDY/, and give STUDY/ to DVC.

    Candidates of a search and cells that failed have none.
    """
    for cell in cells:
        if cell.candidate is None and results[cell.key].status == "ok":
            labels = re.sub(r"[^\w.=-]+", "-", "-".join(cell.columns.values()))[:60]
            folder = KEPT / study / f"{labels}-seed{cell.params.base.seed}-{cell.key[:8]}"
            folder.mkdir(parents=True, exist_ok=True)
            trained = train_cell(cell, prepared_images(cell.prepared))[0] / NETWORK
            for path in (trained, trained.with_suffix(".json"), cell.prepared / "meta.json"):
                shutil.copy(path, folder)
            about = {"key": cell.key, "params": cell.params.model_dump()}
            write_json(folder / "result.json", about | results[cell.key]._asdict())
            say(f"kept  {folder}")
    if not (KEPT / study).is_dir():
        return
    command = ["dvc", "--wait-for-lock", "add", str(KEPT / study)]
    with followed([sys.executable, "-m", *command]) as process:
        output = process.communicate()[0]
    if process.returncode:
        raise InputError(f"`{' '.join(command)}`: {output[-500:].strip()}", "mend it and give that command again")


def run_cells(cells: list[Cell], jobs: int | None, commit: str | None) -> Iterator[tuple[Cell, CellResult | str]]:
    """Run ``cells``, ``jobs`` in parallel; results do not depend on jobs or pool.

    Yields each cell with its result, which is on disk, or with its error, in order of completion.
    """
    if not cells:
        return
    images, bases = [cell.prepared for cell in cells], [cell.params.base for cell in cells]
    jobs = jobs or default_count(bases)
    with open_pool(jobs and min(jobs, len(cells)), 1, images, bases, isolated=False) as pool:
        for cell, outcome in run_each(pool, functools.partial(_run_job, commit), cells):
            if isinstance(outcome, BrokenExecutor):
                outcome = "the worker died every time (out of memory?): run the study again with --jobs 1"
            yield cell, outcome


def _run_job(commit: str | None, cell: Cell) -> CellResult | str:
    """The result of a cell, or its error. That of a bug in our code or in an own network has its line, but no traceback."""
    try:
        return CellResult(**once(cell.folder, lambda: run_cell(cell)._replace(commit=commit)._asdict()))
    except Exception as error:
        leave_if_lost_gpu(error, cell.name)
        place = place_in((NETWORKS, CHECKOUT / "gee_core", CHECKOUT / "pipelines"), error)
        where = f"{place[0].parent.name}/{place[0].name}, {place[1]}" if place else "a library"
        return known_message(error) or f"{where} {raises(error)}: mend it and run the study again"

"""Runs a study, from studies/NAME.yaml to the tables and figures in reports/studies/NAME/."""

import functools
from dataclasses import dataclass
from pathlib import Path

from pipelines.engines.select import default_count
from pipelines.project.git import git_commit
from pipelines.project.paths import STUDY_STEPS
from pipelines.runtime.file_lock import file_lock
from pipelines.runtime.resume_folder import HELD
from pipelines.stage import closing
from pipelines.studies.cell import Cell, CellResult, Request, distinct
from pipelines.studies.definition import Study, load_study
from pipelines.studies.display import TRACKED, Display
from pipelines.studies.plan import draft_cells, resolve_cells
from pipelines.studies.reports import OUT, write_reports
from pipelines.studies.runner import CellsError, read_result, run_cells
from pipelines.studies.steps import forget, prepare_images
from pipelines.studies.tables import TextTable
from pipelines.studies.tracking import open_study_tracker


@dataclass(frozen=True)
class Plan:
    """A study whose cells are known and whose images are prepared."""

    study: Study
    cells: list[Cell]
    results: dict[str, CellResult]
    """Those that need not be computed, by the key of their cell."""
    jobs: int | None
    """Cells to run in parallel; None for one on each worker."""

    @property
    def missing(self) -> list[Cell]:
        """The cells that would run."""
        return [cell for cell in distinct(self.cells) if cell.key not in self.results]


def plan_study(request: Request, jobs: int | None = None, force: bool = False) -> Plan:
    """Check the request and prepare its images; the arguments are those of `run_study`."""
    study = load_study(request.name)
    cells = resolve_cells(draft_cells(study, request), functools.cache(prepare_images))
    folder = OUT / request.name / "cells"
    results = {cell.key: found for cell in cells if not force and (found := read_result(folder, cell.key))}
    return Plan(study, cells, results, jobs or default_count(cell.params.base for cell in cells))


def run_study(
    request: Request, watch: Display, jobs: int | None = None, force: bool = False, keep: bool = False
) -> list[TextTable]:
    """Run the cells of a study that have no result, and write its tables and figures; returns the tables.

    Args:
        request: the study and its changes.
        watch: shows the progress.
        jobs: cells to run in parallel; None for the engine's default. Changes no result.
        force: run cells that have a result too.
        keep: write the trained networks to models/studies/NAME too, and give them to DVC.

    Raises:
        CellsError: cells have no result; the tables and figures are those of the others.
    """
    plan = plan_study(request, jobs, force)
    cells, results, out = plan.cells, plan.results, OUT / request.name
    folder = out / "cells"
    watch.planned(cells, plan.missing, plan.jobs)
    if force:
        for cell in cells:
            (folder / f"{cell.key}.json").unlink(missing_ok=True)
        forget(cells)
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

        commit, failure = git_commit(Path.cwd()), None
        try:
            run_cells(cells, folder, plan.jobs, commit, watch.note, on_done)
        except CellsError as error:
            if not results:
                raise
            failure = error
            for key, reason in error.failed.items():
                results[key] = {"status": " ".join(f"failed: {reason}".split()), "metrics": {}, "commit": commit}
        with file_lock(STUDY_STEPS / "reports" / request.name / HELD):  # another run of the study may be at its end too
            tables, left_out = write_reports(request, plan.study, cells, results)
            for path in sorted(out.glob("*.*")):
                tracker.artifact(path)
            tracker.note((out / "table.md").read_text(encoding="utf-8"))
        if left_out:
            watch.say(f"left out, no cell has it: {', '.join(left_out)}")
        if failure:
            watch.say(f"tables of the finished cells  {out.resolve()}")
            raise failure
    if address := tracker.address():
        watch.say(f"{TRACKED}{address}")
    if keep:
        from pipelines.studies.keep import keep_networks  # loads ONNX

        keep_networks(request.name, [(cell, results[cell.key]) for cell in distinct(cells)], watch)
    return tables

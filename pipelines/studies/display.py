"""Shows the progress of a study: a line for every finished cell, and on a terminal a bar for every cell that runs."""

import time

from rich.progress import TaskID

from pipelines.runtime.progress import Steps
from pipelines.studies.cell import Cell, CellResult, distinct
from pipelines.studies.metrics import METRICS, named

TRACKED = "in MLflow  "
"""Comes before the address of the study's run in MLflow."""


class Display:
    """Counts the cells in ``steps``, in whose bars it shows every running cell and prints lines.

    Of a finished cell it prints the first of ``metrics`` that the cell has.
    """

    def __init__(self, steps: Steps, metrics: list[str]):
        assert steps.bars is not None
        self._bar, self._steps, self._metrics = steps.bars, steps, metrics
        self._running: dict[str, tuple[TaskID, float]] = {}

    def planned(self, cells: list[Cell], missing: list[Cell], jobs: int | None) -> None:
        """Of ``cells``, those in ``missing`` have no result yet. ``jobs`` run in parallel (None: one on each worker)."""
        self.say(plan_line(cells, missing, jobs))
        self._steps.at(0, total=len(missing))

    def note(self, cell: Cell, note: str) -> None:
        """``cell`` is at the step ``note``."""
        if cell.key not in self._running:
            self._running[cell.key] = self._bar.add_task(f"  {cell.name}", total=None, note=note), time.monotonic()
        self._bar.update(self._running[cell.key][0], note=note)
        if not self._bar.console.is_terminal:
            self._steps.at(self._steps.done, f"{cell.name}: {note}")

    def done(self, cell: Cell, result: CellResult) -> None:
        """``cell`` has a result."""
        self._steps()
        self._steps.note = ""
        task, start = self._running.pop(cell.key, (None, time.monotonic()))
        if task is not None:
            self._bar.remove_task(task)
        outcome, numbers = result["status"], named(result["metrics"])
        if first := next((name for name in self._metrics if name in numbers), None):
            outcome = f"{METRICS[first].header} {METRICS[first].format(numbers[first])}"
        count, seconds = f"{self._steps.done:.0f}/{self._steps.total:.0f}", time.monotonic() - start
        self.say(f"{count}  {cell.name}: {outcome} ({seconds:.0f} s)")

    def say(self, line: str) -> None:
        """Print a line."""
        self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)


def plan_line(cells: list[Cell], missing: list[Cell], jobs: int | None) -> str:
    """How many of ``cells`` would run, and how many at once."""
    at_once = f"{jobs} at once" if jobs else "one on each worker of GEE_DASK"
    n = len(distinct(cells))
    return f"{n} cells, {n - len(missing)} of them done; {len(missing)} to run, {at_once}"

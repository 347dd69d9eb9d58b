"""Shows the progress of a study: a line for every finished cell; the cells that run, on a terminal as bars, else in `Steps`."""

import time
from pathlib import Path

from rich.progress import TaskID

from pipelines.runtime.progress import Bars, Steps
from pipelines.studies.cell import Cell, CellResult, distinct
from pipelines.studies.metrics import METRICS, named

TRACKED = "in MLflow  "
"""Comes before the address of the study's run in MLflow."""


class Display:
    """Prints to the console of ``bar``, shows the study and every running cell in it, and counts the cells in ``steps``.

    Of a finished cell it prints the first of ``metrics`` that the cell has.
    """

    def __init__(self, bar: Bars, steps: Steps, metrics: list[str]):
        self._bar, self._steps, self._metrics = bar, steps, metrics
        bar.add_task(steps.description, total=None, note="", steps=steps)
        self._running: dict[str, tuple[TaskID, float]] = {}
        self._notes: dict[str, str] = {}

    def planned(self, cells: list[Cell], missing: list[Cell], jobs: int | None) -> None:
        """``missing`` of the ``cells`` have no result yet; ``jobs`` run in parallel (None: one on each worker)."""
        self.say(plan_line(cells, missing, jobs))
        self._steps.at(0, total=len(missing))

    def note(self, cell: Cell, note: str) -> None:
        """``cell`` is at the step ``note``."""
        if cell.key not in self._running:
            self._running[cell.key] = self._bar.add_task(f"  {cell.name}", total=None, note=note), time.monotonic()
        self._bar.update(self._running[cell.key][0], note=note)
        self._notes[cell.key] = f"{cell.name}: {note}"
        self._note()

    def done(self, cell: Cell, result: CellResult) -> None:
        """``cell`` has a result."""
        self._steps()
        seconds = self._ended(cell)
        outcome, found = result["status"], named(result["metrics"])
        if first := next((name for name in self._metrics if name in found), None):
            outcome = f"{METRICS[first].header} {METRICS[first].format(found[first])}"
        self.say(f"{self._steps.done:.0f}/{self._steps.total:.0f}  {cell.name}: {outcome} ({seconds:.0f} s)")

    def kept(self, cell: Cell, folder: Path) -> None:
        """``folder`` has the network of ``cell``."""
        self._ended(cell)
        self.say(f"kept  {folder}")

    def say(self, line: str) -> None:
        """Print a line."""
        self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _ended(self, cell: Cell) -> float:
        """Show ``cell`` no longer; returns for how many seconds it was shown."""
        self._notes.pop(cell.key, None)
        self._note()
        if cell.key not in self._running:
            return 0.0
        task, start = self._running.pop(cell.key)
        self._bar.remove_task(task)
        return time.monotonic() - start

    def _note(self) -> None:
        if not self._bar.console.is_terminal:  # there each running cell has a bar
            self._steps.note = "; ".join(self._notes.values())


def plan_line(cells: list[Cell], missing: list[Cell], jobs: int | None) -> str:
    """How many of ``cells`` would run, and how many at once."""
    at_once = f"{jobs} at once" if jobs else "one on each worker of GEE_DASK"
    n = len(distinct(cells))
    return f"{n} cells, {n - len(missing)} of them done; {len(missing)} to run, {at_once}"

"""Shows the progress of a study: a line for every finished cell, and on a terminal bars for the cells that run."""

import time

from rich.progress import Progress, TaskID

from pipelines.studies.plan import Cell
from pipelines.studies.study import Watch


class Display(Watch):
    """Prints to the console of ``bar``, and shows the study and every running cell in it."""

    def __init__(self, bar: Progress):
        self._bar = bar
        self._study = bar.add_task("cells", total=None, note="")
        self._running: dict[str, tuple[TaskID, float]] = {}

    def planned(self, cells: list[Cell], missing: list[Cell], jobs: int | None) -> None:
        distinct = len({cell.key for cell in cells})
        at_once = f"{jobs} at once" if jobs else "one on each worker of GEE_DASK"
        self._print(f"{distinct} cells, {distinct - len(missing)} of them done; {len(missing)} to run, {at_once}")
        self._bar.update(self._study, total=len(missing))

    def note(self, cell: Cell, note: str) -> None:
        if cell.key not in self._running:
            self._running[cell.key] = self._bar.add_task(f"  {cell.name}", total=None, note=note), time.monotonic()
        self._bar.update(self._running[cell.key][0], note=note)

    def done(self, cell: Cell, result: dict) -> None:
        self._bar.update(self._study, advance=1)
        seconds = 0.0
        if cell.key in self._running:
            task, start = self._running.pop(cell.key)
            self._bar.remove_task(task)
            seconds = time.monotonic() - start
        outcome = result["status"]
        if outcome == "ok":
            outcome = f"test accuracy {result['metrics'].get('test_accuracy', float('nan')):.2%}"
        study = self._bar.tasks[0]
        self._print(f"{study.completed:.0f}/{study.total:.0f}  {cell.name}: {outcome} ({seconds:.0f} s)")

    def _print(self, line: str) -> None:
        self._bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

"""How a study shows its progress: bars on a terminal, a line per finished cell elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipelines.studies.plan import Cell
from pipelines.studies.study import Watch


@contextmanager
def show_progress(console: Console) -> Iterator[Watch]:
    """A `Watch` that writes to ``console``."""
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        yield Bars(bar)


class Lines(Watch):
    """A line per finished cell."""

    def __init__(self, console: Console):
        self._console = console
        self._done = self._total = 0
        self._begun: dict[str, float] = {}

    def planned(self, cells: list[Cell], missing: list[Cell], jobs: int | None) -> None:
        self._total = len(missing)
        self._console.print(_plan_line(cells, missing, jobs), highlight=False)

    def note(self, cell: Cell, note: str) -> None:
        self._begun.setdefault(cell.key, time.monotonic())

    def done(self, cell: Cell, result: dict) -> None:
        self._done += 1
        seconds = time.monotonic() - self._begun.get(cell.key, time.monotonic())
        line = f"{self._done}/{self._total}  {cell.name}: {_outcome(result)} ({seconds:.0f} s)"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class Bars(Watch):
    """A bar for the study and a line for every cell that runs."""

    def __init__(self, bar: Progress):
        self._bar = bar
        self._study = bar.add_task("cells", total=None, note="")
        self._running: dict[str, int] = {}

    def planned(self, cells: list[Cell], missing: list[Cell], jobs: int | None) -> None:
        self._bar.console.print(_plan_line(cells, missing, jobs), highlight=False)
        self._bar.update(self._study, total=len(missing))

    def note(self, cell: Cell, note: str) -> None:
        if cell.key not in self._running:
            self._running[cell.key] = self._bar.add_task(f"  {cell.name}", total=None, note=note)
        self._bar.update(self._running[cell.key], note=note)

    def done(self, cell: Cell, result: dict) -> None:
        self._bar.update(self._study, advance=1)
        if cell.key in self._running:
            self._bar.remove_task(self._running.pop(cell.key))
        self._bar.console.print(f"{cell.name}: {_outcome(result)}", highlight=False, markup=False)


def _plan_line(cells: list[Cell], missing: list[Cell], jobs: int | None) -> str:
    distinct = len({cell.key for cell in cells})
    at_once = f"{jobs} at once" if jobs else "one on each worker of GEE_DASK"
    return f"{distinct} cells, {distinct - len(missing)} of them done; {len(missing)} to run, {at_once}"


def _outcome(result: dict) -> str:
    if result["status"] != "ok":
        return result["status"]
    return f"test accuracy {result['metrics'].get('test_accuracy', float('nan')):.2%}"

"""How far a task is: bars on a terminal; elsewhere, as in a log of cron, nohup, Prefect or SLURM, a line every 30 seconds.

A line is printed when a step or a part of one is done. The tasks of this project tell these often enough.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from pipelines.runtime.settings import Settings

console = Console(stderr=True)

FIRST_SECONDS, LINE_SECONDS = 10.0, 30.0
"""Time until the first line, and between two lines."""


class Steps:
    """How far one task is, of ``total`` steps (None while that is unknown); called for each step.

    It is shown in ``bars``, with the field ``note``, or in ``lines`` there. Without ``bars`` nothing is shown.
    """

    def __init__(
        self,
        description: str,
        total: float | None,
        bars: Progress | None = None,
        lines: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.description, self.total, self.done, self.note, self.bars = description, total, 0.0, "", bars
        self._clock, self._start = clock, clock()
        self._task = None if bars is None else bars.add_task(description, total=total, note="")
        self._next_line = self._start + FIRST_SECONDS if lines else math.inf
        self._since: tuple[float, float] | None = None
        """The time and the steps from which the time left is estimated."""

    def __call__(self, n: float = 1, note: str = "") -> None:
        """``n`` more steps are done; ``note`` replaces the last one unless it is empty."""
        self.at(self.done + n, note)

    def at(self, done: float, note: str = "", total: float | None = None, resumed: bool = False) -> None:
        """``done`` steps are done, parts of a step too; of those ``resumed`` from an earlier run no time left is estimated."""
        self.done, self.note, self.total = done, note or self.note, self.total if total is None else total
        now = self._clock()
        if resumed or self._since is None:
            self._since = now, done
        if self.bars is not None and self._task is not None:
            words = [f"{left} left"] if (left := self.left()) else []
            self.bars.update(self._task, completed=done, total=self.total, note=" ".join([*words, self.note]))
        if now >= self._next_line:
            self._print(self.line())
            self._next_line = now + LINE_SECONDS

    def end(self) -> None:
        """Show that all steps are done, in a log by a last line."""
        is_log, self._next_line = self._next_line < math.inf, math.inf
        self.at(self.done if self.total is None else self.total)
        if is_log:
            self._print(self.line(ended=True))

    def _print(self, line: str) -> None:
        if self.bars is not None:
            self.bars.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def left(self) -> str:
        """The estimated time until the end, such as ``2:10``; nothing while it cannot be estimated."""
        since, first = self._since or (0.0, self.done)
        if self.total is None or not first < self.done < self.total:
            return ""
        return _clock_time((self._clock() - since) / (self.done - first) * (self.total - self.done))

    def line(self, ended: bool = False) -> str:
        """How far the task is, or that it has ``ended``: ``train 12/30 40 % loss 0.310, accuracy 0.912, 2:10 left``."""
        words = [self.description]
        if self.total is None:
            words += [f"{self.done:.0f}"] if self.done else []
        else:
            percent = 100 * self.done / self.total if self.total else 100
            words += [f"{int(self.done)}/{self.total:.0f}", f"{percent:.0f} %"]
        elapsed = _clock_time(self._clock() - self._start)
        time_left = f"{left} left" if (left := self.left()) else f"{elapsed} so far"
        return f"{' '.join(words)} {f'{self.note}, ' if self.note else ''}{f'in {elapsed}' if ended else time_left}"


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def progress(description: str, total: int | None, out: Console | None = None) -> Iterator[Steps]:
    """Show the progress of one task on ``out``, by default stderr; yields its `Steps`. A task that fails has no last line."""
    out, is_off = out or console, Settings.read().progress == "off"
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),  # is cut first
    )
    with Progress(*columns, console=out, expand=True, disable=is_off or not out.is_terminal) as bars:
        steps = Steps(description, total, bars, lines=not is_off and not out.is_terminal)
        yield steps
        steps.end()

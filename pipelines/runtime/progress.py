"""How far a task is: bars on a terminal; elsewhere, as in a log of cron, nohup, Prefect or SLURM, a line every 30 seconds."""

import math
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipelines.runtime.settings import Settings

console = Console(stderr=True)

FIRST_SECONDS, LINE_SECONDS = 10.0, 30.0
"""Time until the first line, and between two lines."""


class Steps:
    """How far one task is, of ``total`` steps (None while that is unknown); called for each step, read by another thread."""

    def __init__(self, description: str, total: float | None, clock: Callable[[], float] = time.monotonic):
        self.description, self.total, self.done, self.note = description, total, 0.0, ""
        self._clock, self._start, self._first = clock, clock(), 0.0
        self._since: tuple[float, float] | None = None
        """The time and the steps from which the time left is estimated."""

    def __call__(self, n: float = 1, note: str = "") -> None:
        """``n`` more steps are done; ``note`` replaces the last one unless it is empty."""
        self.at(self.done + n, note)

    def at(self, done: float, note: str = "", total: float | None = None, resumed: bool = False) -> None:
        """``done`` steps are done, parts of a step too; of those ``resumed`` from an earlier run no time left is estimated."""
        self.done, self.note, self.total = done, note or self.note, self.total if total is None else total
        now = self._clock()
        self._first = self._first or now
        if resumed or self._since is None or now - self._first < 1.0:  # so soon after the first: of an earlier run too
            self._since = now, done

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


class Jobs:
    """Adds up how far the jobs of a task are that run at the same time, each of them one step."""

    def __init__(self, steps: Steps):
        self._steps = steps
        self._parts: dict[Hashable, float] = {}

    def at(self, job: Hashable, part: float, note: str = "", resumed: bool = False) -> None:
        """``part`` of ``job`` is done, from 0 to 1; ``resumed`` as of `Steps.at`."""
        self._parts[job] = part
        self._steps.at(math.fsum(self._parts.values()), note, resumed=resumed)


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Bars(Progress):
    """Bars with counts, times and a field ``note``; a task with a field ``steps`` shows these. Nothing without a terminal."""

    def __init__(self, console: Console):
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        super().__init__(*columns, console=console, disable=not console.is_terminal or Settings.read().progress == "off")

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            if steps := task.fields.get("steps"):
                note = f"{left} left {steps.note}" if (left := steps.left()) else steps.note
                self.update(task.id, completed=steps.done, total=steps.total, note=note)
        yield from super().get_renderables()


@contextmanager
def lines(steps: Steps, console: Console) -> Iterator[None]:
    """Print ``steps.line()`` every 30 s while the body runs, and once more if it ends well; nothing on a terminal."""
    if console.is_terminal or Settings.read().progress == "off":
        yield
        return
    ended = threading.Event()

    def show(ended: bool = False) -> None:
        console.print(steps.line(ended), highlight=False, markup=False, soft_wrap=True)

    def tick() -> None:
        wait = FIRST_SECONDS
        while not ended.wait(wait):
            show()
            wait = LINE_SECONDS

    thread = threading.Thread(target=tick, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    show(ended=True)


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Steps]:
    """Show the progress of one task; yields its `Steps`."""
    steps = Steps(description, total)
    with Bars(console) as bar, lines(steps, console):
        bar.add_task(description, total=total, note="", steps=steps)
        yield steps

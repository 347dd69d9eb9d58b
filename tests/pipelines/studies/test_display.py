"""A study prints a line for every finished cell; a terminal also shows the cells that run."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from pipelines.runtime.progress import progress
from pipelines.studies.display import Display

CELLS = [SimpleNamespace(key=key, name=f"network = [{key}]") for key in "ab"]


@pytest.mark.parametrize("terminal", [True, False])
def test_every_finished_cell_is_a_line_and_running_cells_are_shown_on_a_terminal_alone(terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with progress("cells", None, console) as steps:
        display = Display(steps, ["test_accuracy"])
        display.planned(CELLS, CELLS, 2)
        display.note(CELLS[0], "evolve 1/2 [x]")
        steps.bars.refresh()
        in_line = "cells 0/2 0 % network = [a]: evolve 1/2 [x], 0:0" in steps.line()
        display.done(CELLS[0], {"status": "ok", "metrics": {"test_accuracy": 0.5}})
        display.done(CELLS[1], {"status": "failed: loss", "metrics": {}})
    text = console.file.getvalue()
    assert "2 cells, 0 of them done; 2 to run, 2 at once" in text
    assert "1/2  network = [a]: test accuracy (%) 50.00 (0 s)" in text
    assert "2/2  network = [b]: failed: loss (0 s)" in text
    assert ("evolve 1/2 [x]" in text) == terminal
    assert in_line != terminal
    assert steps.line(ended=True).startswith("cells 2/2 100 % in 0:0")

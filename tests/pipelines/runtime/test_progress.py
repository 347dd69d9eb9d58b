"""Bars on a terminal, lines in a log."""

import io

import pytest
from rich.console import Console

from pipelines.runtime import progress
from pipelines.runtime.progress import Steps


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_line_says_what_is_done_and_what_is_left(clock):
    steps = Steps("train", 30, clock=clock)
    steps.at(0.5)
    clock.now += 60
    steps.at(12.4, "loss 0.310, accuracy 0.912")
    assert steps.line() == "train 12/30 41 % loss 0.310, accuracy 0.912, 1:29 left"
    clock.now += 30  # nothing moves: it takes longer than estimated
    assert steps.line() == "train 12/30 41 % loss 0.310, accuracy 0.912, 2:13 left"
    steps.at(30)
    clock.now += 3600
    assert steps.line(ended=True) == "train 30/30 100 % loss 0.310, accuracy 0.912, in 1:01:30"


def test_what_is_known_of_an_earlier_run_is_not_measured_however_long_it_takes(clock):
    steps = Steps("evolve", 30, clock=clock)
    for done in range(1, 21):
        clock.now += 1
        steps.at(done, resumed=True)
    assert steps.line() == "evolve 20/30 67 % 0:20 so far"
    clock.now += 30
    steps.at(20.5)
    assert steps.line() == "evolve 20/30 68 % 9:30 left"


def test_a_total_that_is_not_known_yet(clock):
    steps = Steps("prepare", None, clock=clock)
    assert steps.line() == "prepare 0:00 so far"
    steps.at(512, "images", 2048)
    clock.now += 10
    assert steps.line() == "prepare 512/2048 25 % images, 0:10 so far"
    steps.at(0, total=0)
    assert steps.line(ended=True) == "prepare 0/0 100 % images, in 0:10"


def test_a_log_gets_a_line_after_a_while_and_one_at_the_end(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=log, width=20))
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with progress.progress("evolve", 28) as steps:
        steps.at(3, "generation [0], best F 0.512")
        steps.at(4)
        monkeypatch.setattr(progress, "LINE_SECONDS", 600)
        steps.at(3)
        steps.at(3)
    first, second, third, last = log.getvalue().splitlines()
    assert [line.split(", best")[0] for line in (first, second, third)] == [
        f"evolve {done}/28 {percent} % generation [0]" for done, percent in ((3, 11), (4, 14), (3, 11))
    ]
    assert last.startswith("evolve 28/28 100 % generation [0], best F 0.512, in 0:")


def test_a_short_task_is_one_line_and_a_failed_one_is_none(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=log))
    with pytest.raises(ZeroDivisionError), progress.progress("train", 3) as steps:
        steps(1 / 0)
    assert log.getvalue() == ""
    with progress.progress("train", 3) as steps:
        steps(3)
    assert log.getvalue().count("\n") == 1


def test_a_terminal_has_a_bar_that_moves_within_a_step_and_ends_full(monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(progress, "console", console)
    with progress.progress("train", 3) as steps:
        steps.at(1.5, "loss 0.5 [x]")
        assert steps.bars.tasks[0].completed == 1.5
        steps.bars.refresh()
    text = console.file.getvalue()
    assert "1/3" in text and "3/3" in text.rpartition("1/3")[2]
    assert ", in 0:" not in text  # no line
    assert "loss 0.5 [x]" in text

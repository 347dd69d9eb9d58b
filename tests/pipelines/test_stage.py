"""What every stage does around its work."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from gee_core.errors import InputError
from pipelines import stage as frame
from pipelines.runtime import progress
from pipelines.stage import stage


class Tracked:
    run = object()
    execution = SimpleNamespace(run=object())

    def close(self, status="FINISHED", error=""):
        self.status, self.error = status, error


@pytest.fixture
def tracked(in_project, monkeypatch):
    in_project()
    tracked = Tracked()
    monkeypatch.setattr(frame, "open_stage", lambda name, params, writes: tracked)
    return tracked


def test_a_stage_that_ends_well_is_tracked_as_finished(tracked, make_params):
    with stage("train") as s:
        assert s.params == make_params()
        assert s.run is tracked.run
    assert tracked.status == "FINISHED"


@pytest.mark.parametrize(
    ("error", "raised", "code", "status", "why"),
    [
        (InputError("a file: is missing\nanother: too"), SystemExit, 2, "FAILED", "a file: is missing\nanother: too"),
        (KeyboardInterrupt(), SystemExit, 130, "KILLED", ""),
        (SystemExit(143), SystemExit, 143, "KILLED", ""),
        (ZeroDivisionError("a bug"), ZeroDivisionError, None, "FAILED", "ZeroDivisionError: a bug"),
    ],
    ids=["bad input", "Ctrl-C", "SIGTERM", "bug"],
)
def test_a_stage_that_ends_badly_has_its_exit_code_and_its_status(error, raised, code, status, why, tracked, capsys):
    with pytest.raises(raised) as caught, stage("train"):
        raise error
    assert getattr(caught.value, "code", None) == code
    assert (tracked.status, tracked.error) == (status, why)
    message = capsys.readouterr().err
    if code == 2:
        assert message == "train: error: a file: is missing\ntrain: error: another: too\n"
    if code == 130:
        assert message == "train: interrupted; the same command continues where it stopped\n"


def test_bad_params_are_refused_before_anything_is_tracked(in_project, monkeypatch, capsys):
    folder = in_project()
    (folder / "params.yaml").write_text("base: {}\n")
    monkeypatch.setattr(frame, "open_stage", lambda *_, **__: pytest.fail("a run was opened"))
    with pytest.raises(SystemExit) as caught, stage("train"):
        pytest.fail("the stage ran")
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("train: error: params.yaml: ")


def test_a_stage_shows_its_progress(tracked, monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=text))
    with stage("train") as s, s.progress("train", 3) as steps:
        steps(3, note="loss 0.5")
    assert text.getvalue().startswith("train 3/3 100 % loss 0.5, in 0:0")

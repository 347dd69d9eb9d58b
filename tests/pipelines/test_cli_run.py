"""The command `gee run`, with another program in place of DVC."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock, Timeout

from pipelines.commands import run as commands
from pipelines.orchestration import request
from pipelines.orchestration.flow_lock import LOCK
from pipelines.reporting.summary import read_summary
from pipelines.runtime import progress
from tests.project_copy import ROOT


@pytest.fixture
def ready(bare_project, monkeypatch) -> Path:
    """The project with all that `gee run` needs."""
    (bare_project / "data/raw").mkdir(parents=True)
    (bare_project / ".git").mkdir()
    monkeypatch.setattr("pipelines.runtime.process_tree.exit_on_sigterm", lambda: None)  # the handler would outlive the test
    return bare_project


@pytest.fixture
def dvc(ready, monkeypatch) -> SimpleNamespace:
    """The ``started`` commands of DVC, each with the first folder of PATH, their ``work`` and the exit ``code`` of all."""
    fake = SimpleNamespace(started=[], code=0, work=lambda: None)

    def run_in_foreground(command):
        with pytest.raises(Timeout):  # no other run in the project
            FileLock(LOCK).acquire(timeout=0)
        fake.started.append((command, os.environ["PATH"].split(os.pathsep)[0]))
        fake.work()
        return fake.code

    monkeypatch.setattr("pipelines.runtime.process_tree.run_in_foreground", run_in_foreground)
    return fake


def test_run_is_dvc_repro_in_its_project_with_this_python_and_its_exit_code(main, dvc, monkeypatch):
    heard, dvc.code = [], 3

    @contextmanager
    def tracked_execution(*_, **__) -> Iterator[SimpleNamespace]:
        try:
            yield SimpleNamespace(execution=None, goes_on=False)
        except Exception as error:
            heard.append(error)
            raise

    monkeypatch.setattr("pipelines.tracking.tracker.tracked_execution", tracked_execution)
    assert main("run")[0] == main("run", "--force")[0] == 3
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro"]
    assert dvc.started == [(words, str(Path(sys.executable).parent)) for words in (command, [*command, "--force"])]
    assert len(heard) == 2  # the run in MLflow has failed too


@pytest.mark.parametrize("store", ["", "http://host"])
def test_run_ends_with_the_address_of_its_own_run_and_what_became_of_its_model(main, ready, dvc, monkeypatch, store):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    execution = SimpleNamespace(address="http://host/#/runs/1", models=["m"])
    tracked = SimpleNamespace(execution=execution, goes_on=False)
    monkeypatch.setattr("pipelines.tracking.tracker.tracked_execution", lambda *_, **__: nullcontext(tracked))
    monkeypatch.setattr(commands, "summary", lambda: None)
    monkeypatch.setenv("COLUMNS", "40")  # no line break cuts an address
    local = ["Runs     gee ui", "         then http://host/#/runs/1"]
    shown = main("run")[1].splitlines()
    begin = shown.index(f"Report   {(ready / 'reports/index.html').as_uri()}") + 1
    lines = shown[begin : shown.index("Next     gee run --set evolve.n_generations=5")]
    assert lines == ["Model    m", *(["Runs     http://host/#/runs/1"] if store else local)]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.usefixtures("dvc", "ready")
def test_run_says_how_to_activate_the_environment_where_the_shell_does_not_know_gee(main, monkeypatch, tmp_path, known):
    monkeypatch.setattr(commands, "summary", lambda: None)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent if known else tmp_path))
    assert (f"First    source {sys.prefix}/bin/activate" in main("run")[1].splitlines()) is not known


ANOTHER, THIS = "Another CPU; torch 2", "This CPU; torch 2"


@pytest.mark.parametrize(
    ("machine", "first", "says"),
    [(ANOTHER, False, True), (THIS, False, False), (None, False, False), (ANOTHER, True, False)],
)
def test_another_machine_than_that_of_the_last_numbers_here_is_told_in_one_line(main, dvc, monkeypatch, machine, first, says):
    def report() -> None:
        Path("reports").mkdir()
        Path("reports/index.html").touch()

    dvc.work = report if first else lambda: None
    if not first:
        report()
    last, told = read_summary(ROOT / "reports/summary.json"), []
    found = lambda _: last.model_copy(update={"machine": THIS if dvc.started else machine})  # noqa: E731
    monkeypatch.setattr(request, "read_summary", found)
    monkeypatch.setattr("pipelines.reporting.summary.track_result", lambda summary, tracker: told.append(summary.machine))
    monkeypatch.setattr(commands, "summary", lambda: None)
    line = f"Numbers may differ from the last ones, made on {machine}: this is This CPU; torch 2"
    assert (line in (lines := main("run")[1].splitlines())) is says and ("Numbers" in " ".join(lines)) is says
    assert told == [THIS] * (first or machine != THIS)  # MLflow is told of new numbers, though no stage ran


def test_run_without_git_says_how_dvc_works_before_it_starts(main, ready, dvc):
    (ready / ".git").rmdir()
    problem = f"{ready}: in no git repository, which DVC expects"
    remedy = "`git init`, or `dvc config core.no_scm true` (no experiments then)"
    assert main("run") == (2, "", f"gee: error: {problem}: {remedy}\n")
    assert dvc.started == []
    (ready / ".dvc").mkdir()
    (ready / ".dvc/config").write_text("[core]\n    no_scm = True\n")
    main("run")
    assert len(dvc.started) == 1


def test_run_with_other_values_is_an_experiment_in_a_copy_and_a_stage_is_run_alone(main, dvc, monkeypatch):
    monkeypatch.setattr("pipelines.orchestration.request.head", lambda _: "a commit")
    monkeypatch.setattr("pipelines.orchestration.request.git", lambda *_: "")
    assert main("run", "--stage", "evolve") == (0, "", "")  # there is no summary yet
    code, out, err = main("run", "--set", "train.epochs=12", "--stage", "train")
    (_, *alone), (*how, name, change, stage) = (command[3:] for command, _ in dvc.started)
    assert (code, err, alone) == (0, "", ["repro", "evolve"])
    assert (how[1:], change, stage) == (["exp", "run", "--temp", "--name"], "--set-param=train.epochs=12", "train")
    assert f"dvc exp apply {name}" in out


def test_the_folder_of_a_presets_images_is_that_of_this_run(main, dvc, monkeypatch):
    monkeypatch.setattr("pipelines.orchestration.request.head", lambda _: "a commit")
    monkeypatch.setattr("pipelines.orchestration.request.git", lambda *_: "tracked")
    for digit in "01":
        Path("sub/events/train", digit).mkdir(parents=True)
        Path("sub/events/train", digit, "1.bin").touch()
    before = Path("params.yaml").read_bytes()
    monkeypatch.chdir("sub")
    assert main("run", "--preset", "nmnist", "--data", "events", "--stage", "check")[::2] == (0, "")
    assert f"--set-param=prepare.path='{Path.cwd() / 'sub/events'}'" in dvc.started[0][0]
    assert Path("params.yaml").read_bytes() == before
    assert main("run", "--data", "sub")[2] == "gee: error: --data sub: there is no --preset: write --set prepare.path=sub\n"
    assert "reads scikit-learn's digits, no folder" in main("run", "--preset", "digits", "--data", "sub")[2]
    assert main("run", "--set", "train.lr=-1")[2] == "gee: error: --set train.lr=-1: input should be greater than 0\n"


def test_verbose_asks_dvc_for_its_reasons_and_quiet_stages_print_no_progress(main, dvc, monkeypatch, capsys):
    monkeypatch.setenv("GEE_PROGRESS", "on")  # restored after the test
    dvc.code = 3
    main("-v", "-q", "run")
    assert dvc.started[0][0][4:] == ["repro", "--verbose"] and os.environ["GEE_PROGRESS"] == "off"
    with progress.progress("work", 1):
        pass
    assert "work" not in capsys.readouterr().err

"""The command `gee run`, with another program in place of DVC."""

import os
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock, Timeout

from pipelines.commands import run as commands
from pipelines.orchestration.flow_lock import LOCK
from pipelines.runtime import progress

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ready(bare_project, monkeypatch) -> Path:
    """The project with all that `gee run` needs."""
    (bare_project / "data/raw").mkdir(parents=True)
    (bare_project / ".git").mkdir()
    monkeypatch.setattr("pipelines.runtime.process_tree.exit_on_sigterm", lambda: None)  # the handler would outlive the test
    return bare_project


@pytest.mark.parametrize("force", [True, False])
def test_run_is_dvc_repro_alone_in_its_project_with_this_python_first_and_its_exit_code(force, main, ready, monkeypatch):
    started = []

    def run_in_foreground(command):
        with pytest.raises(Timeout):
            FileLock(LOCK).acquire(timeout=0)
        started.append((command, os.environ["PATH"].split(os.pathsep)[0]))
        return 3

    monkeypatch.setattr("pipelines.runtime.process_tree.run_in_foreground", run_in_foreground)
    code, *_ = main("run", *(["--force"] if force else []))
    assert code == 3
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *(["--force"] if force else [])]
    assert started == [(command, str(Path(sys.executable).parent))]


@pytest.mark.parametrize(
    ("store", "lines"),
    [
        (
            "",
            [
                "Model    m",
                "Runs     mlflow server --backend-store-uri sqlite:///mlflow.db",
                "         then http://host/#/runs/1",
            ],
        ),
        ("http://host", ["Model    m", "Runs     http://host/#/runs/1"]),
    ],
)
def test_run_ends_with_the_address_of_its_own_run_and_what_became_of_its_model(main, ready, monkeypatch, store, lines):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    tracker = SimpleNamespace(address="http://host/#/runs/1", models=["m"])
    monkeypatch.setattr("pipelines.tracking.tracker.tracked_execution", lambda _: nullcontext([tracker]))
    monkeypatch.setattr("pipelines.runtime.process_tree.run_in_foreground", lambda _: 0)
    monkeypatch.setattr(commands, "summary", lambda: None)
    monkeypatch.setenv("COLUMNS", "40")  # no line break cuts an address
    shown = main("run")[1].splitlines()
    begin = shown.index(f"Report   {(ready / 'reports/index.html').as_uri()}") + 1
    assert shown[begin : shown.index("Next     gee run --set evolve.n_generations=5")] == lines


@pytest.mark.parametrize(("machine", "says"), [("Another CPU; torch 2", True), ("This CPU; torch 2", False), (None, False)])
def test_another_machine_than_that_of_the_last_numbers_is_told_in_one_line(main, ready, monkeypatch, machine, says):
    machines = iter([machine, "This CPU; torch 2"])
    monkeypatch.setattr("pipelines.reporting.summary.read_summary", lambda _: SimpleNamespace(machine=next(machines)))
    monkeypatch.setattr(commands, "summary", lambda: None)
    monkeypatch.setattr("pipelines.runtime.process_tree.run_in_foreground", lambda _: 0)
    line = f"Numbers may differ from the last ones, made on {machine}: this is This CPU; torch 2"
    assert (line in main("run")[1].splitlines()) is says


def test_the_run_in_mlflow_hears_of_a_dvc_that_failed(main, ready, monkeypatch):
    heard = []

    @contextmanager
    def tracked_execution(params):
        try:
            yield []
        except Exception as error:
            heard.append(error)
            raise

    monkeypatch.setattr("pipelines.tracking.tracker.tracked_execution", tracked_execution)
    monkeypatch.setattr("pipelines.runtime.process_tree.run_in_foreground", lambda _: 3)
    assert main("run")[0] == 3
    assert len(heard) == 1


def test_run_without_git_says_how_dvc_works_before_it_starts(main, ready, monkeypatch):
    (ready / ".git").rmdir()
    started = []
    monkeypatch.setattr("pipelines.runtime.process_tree.run_in_foreground", lambda _: started.append(1) or 3)
    problem = f"{ready}: in no git repository, which DVC expects"
    remedy = "`git init`, or `dvc config core.no_scm true` (no experiments then)"
    assert main("run") == (2, "", f"gee: error: {problem}: {remedy}\n")
    assert started == []
    (ready / ".dvc").mkdir()
    (ready / ".dvc/config").write_text("[core]\n    no_scm = True\n")
    assert main("run")[0] == 3
    assert started == [1]


def test_run_with_other_values_is_an_experiment_in_a_copy_and_a_stage_is_run_alone(main, ready, monkeypatch):
    started = []
    monkeypatch.setattr("pipelines.runtime.process_tree.run_in_foreground", lambda command: started.append(command[4:]) or 0)
    monkeypatch.setattr("pipelines.orchestration.request.head", lambda _: "a commit")
    monkeypatch.setattr("pipelines.orchestration.request.git", lambda *_: "")
    assert main("run", "--stage", "evolve") == (0, "", "")  # there is no summary yet
    code, out, err = main("run", "--set", "train.epochs=12", "--stage", "train")
    assert not err
    assert code == 0 and started[0] == ["repro", "evolve"]
    *how, name, change, stage = started[1]
    assert (how, change, stage) == (["exp", "run", "--temp", "--name"], "--set-param=train.epochs=12", "train")
    assert f"dvc exp apply {name}" in out


def test_verbose_asks_dvc_for_its_reasons_and_quiet_stages_print_no_progress(main, ready, monkeypatch, capsys):
    started = []
    monkeypatch.setattr("pipelines.runtime.process_tree.run_in_foreground", lambda command: started.append(command[4:]) or 3)
    monkeypatch.setenv("GEE_PROGRESS", "on")  # restored after the test
    assert main("-v", "-q", "run")[0] == 3
    assert started == [["repro", "--verbose"]] and os.environ["GEE_PROGRESS"] == "off"
    with progress.progress("work", 1):
        pass
    assert "work" not in capsys.readouterr().err

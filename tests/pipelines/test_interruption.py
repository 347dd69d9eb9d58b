"""A Ctrl-C while a command still imports its modules."""

import os
import subprocess
import sys

import pytest

from tests.project_copy import ROOT

INTERRUPTS = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"


@pytest.fixture
def run(tmp_path):
    """Exit code and messages of a command that is interrupted when it imports the module ``where``."""

    def run(*command: str, where: str, **env: str) -> tuple[int, str]:
        (tmp_path / f"{where}.py").write_text(INTERRUPTS)
        env = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"} | env
        done = subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
        return done.returncode, done.stderr

    return run


def line(name: str) -> tuple[int, str]:
    return 130, f"{name}: interrupted; the same command continues where it stopped\n"


def test_a_stage_that_still_imports_torch_ends_as_one_that_works(run):
    assert run("-u", "-m", "pipelines.train", where="torch") == line("train")
    assert run("-m", "pipelines.train", where="torch", GEE_PARENT="1") == (130, "train: interrupted\n")  # `gee` says the rest


def test_gee_too(run, tmp_path):
    (tmp_path / "gee").write_text("from pipelines.cli import main\nmain()\n")
    assert run(str(tmp_path / "gee"), "study", "run", "noise", where="typer") == line("gee study run noise")
    again = "gee run -f: interrupted; the same command begins anew, without --force it runs what is not up to date\n"
    assert run(str(tmp_path / "gee"), "run", "-f", where="typer") == (130, again)
    assert run(str(tmp_path / "gee"), "predict", "a b", where="typer") == (130, "gee predict 'a b': interrupted\n")
    assert run("-m", "pipelines.cli", "summary", where="typer") == (130, "gee summary: interrupted\n")


def test_gee_at_work_too(main, monkeypatch):
    def ctrl_c(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.reporting.summary.read_summary", ctrl_c)
    assert main("summary") == (130, "", "gee summary: interrupted\n")


def test_of_several_processes_the_first_says_it_for_all(run):
    assert run("-m", "pipelines.train", where="torch", RANK="1") == (130, "")


def test_a_bug_keeps_its_traceback(run, tmp_path):
    (tmp_path / "ruamel.py").write_text("raise ZeroDivisionError('a bug')")
    code, message = run("-m", "pipelines.check", where="unused")
    assert code == 1
    assert message.startswith("Traceback")
    assert message.endswith("ZeroDivisionError: a bug\n")

"""`gee run`, with DVC, in a project with short stages; tests/pipelines/test_pipeline.py runs the pipeline itself."""

import json
import os
import sys
from pathlib import Path

import pytest

from pipelines.commands.run import _print_experiment
from pipelines.reporting.summary import Summary
from tests.project_copy import ROOT, commit, make_repository, run
from tests.short_stages import gee

IN_THE_WINDOW = """
import os, signal, sys, time
if "repro" in sys.orig_argv:
    from dvc.dvcfile import Lockfile
    def dump_stages(self, stages, **options):
        open("dvc.lock", "w").close()  # as DVC does first
        STOP
        time.sleep(600)
    Lockfile.dump_stages = dump_stages
"""


def count_lines_about_the_lock(err: str) -> int:
    return err.count("gee: dvc.lock was damaged when DVC was stopped, and is again as it was before: DVC's cache has what ran")


def test_a_run_has_the_exit_code_of_dvc_and_may_go_on_after_a_failure(short_stages, main):
    assert (main("run")[0], Path("b").exists(), Path("d").exists()) == (255, True, False)
    assert main("run", "--keep-going")[0] == 255 and Path("d").exists()
    Path("missing").touch()
    code, out, _ = gee(short_stages, "run", "--stage", "third")
    assert code == 0 and "Running stage 'third'" in out and "Stage 'second' didn't change" in out and "other" not in out


STOPS = {143: "os.kill(os.getppid(), signal.SIGTERM)", 130: "os.killpg(0, signal.SIGINT)"}


@pytest.mark.parametrize("code", STOPS)
def test_a_stop_while_dvc_writes_its_lock_leaves_the_lock_of_before(code, short_stages, main):
    """DVC empties the file and then writes it, after every stage."""
    assert main("run", "--stage", "first")[0] == 0
    before = Path("dvc.lock").read_bytes()
    (short_stages / "window").mkdir()
    (short_stages / "window/sitecustomize.py").write_text(IN_THE_WINDOW.replace("STOP", STOPS[code]))
    ended, _, err = gee(short_stages, "run", "--stage", "second", PYTHONPATH=f"{short_stages}/window{os.pathsep}{ROOT}")
    assert (ended, Path("dvc.lock").read_bytes()) == (code, before), err
    assert count_lines_about_the_lock(err) == 1


def test_a_lock_that_a_kill_has_cut_off_is_put_back_by_the_next_run(short_stages, main):
    assert main("run", "--stage", "first")[0] == 0
    lock = Path("dvc.lock")
    whole = lock.read_bytes()
    for left in (b"", whole[: whole.index(b"outs") + 4]):
        lock.write_bytes(left)
        code, _, err = main("run", "--stage", "first")
        assert (code, count_lines_about_the_lock(err), lock.read_bytes()) == (0, 1, whole)
    lock.write_bytes(conflict := whole + b"\n<<<<<<< ours\n")
    assert "dvc.lock: damaged: `git checkout dvc.lock` restores it" in main("run")[2] and lock.read_bytes() == conflict


def test_a_ctrl_c_is_answered_at_once_and_dvc_adds_no_error(short_stages):
    stage = "trap '' INT; echo progress $GEE_PROGRESS; sleep 1; kill -INT 0; exit 130"
    Path("dvc.yaml").write_text(f'stages:\n  one: {{cmd: "{stage}"}}\n')
    code, out, err = gee(short_stages, "run", "-q")
    assert code == 130 and "progress off\n" in out
    assert err == "\ngee: stopping …\ngee run -q: interrupted; the same command continues where it stopped\n"


def make_report(project: Path, machine: str) -> dict:
    """Let the stage `report` write the summary of a run on ``machine``."""
    summary = json.loads((ROOT / "reports/summary.json").read_text()) | {"machine": machine}
    (project / "made.json").write_text(json.dumps(summary))
    report = '{cmd: "mkdir -p reports && cp made.json reports/summary.json && touch reports/index.html", deps: [made.json]'
    (project / "dvc.yaml").write_text(f"stages:\n  report: {report}, outs: [reports/summary.json, reports/index.html]}}\n")
    return summary


def test_a_run_ends_with_its_results_and_where_to_look(short_stages, main, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    make_report(short_stages, "A; torch 2")
    code, out, err = main("run")
    assert (code, err) == (0, "") and "test accuracy" in out and "Numbers" not in out  # there were none
    *_, report, runs, after, _, _ = out.splitlines()
    assert report == f"Report   {(short_stages / 'reports/index.html').as_uri()}"  # no line break cuts an address
    assert (runs, after) == ("Runs     gee ui", "Next     gee run --set base.seed=1")
    make_report(short_stages, "B; torch 2")
    monkeypatch.setenv("PATH", "/bin:/usr/bin")  # without `gee`
    out = main("run")[1]
    assert "Numbers may differ from the last ones, made on A; torch 2: this is B; torch 2\n" in out
    assert f"First    source {sys.prefix}/bin/activate\n" in out


def test_an_experiment_on_other_images_is_not_compared(short_stages, capsys):
    last = Summary.model_validate(make_report(short_stages, "A; torch 2"))
    _print_experiment("more", last.model_copy(update={"dataset": "birds"}), last)
    out = capsys.readouterr().out
    assert (
        out.startswith("\nNot compared with the last run here: that was on digits, this is on birds\n\nResults")
        and "Next" in out
    )


def test_other_values_run_as_an_experiment_and_leave_the_project_as_it_is(short_stages, main):
    from dvc.api import DVCFileSystem

    make_repository(short_stages)
    run(short_stages, sys.executable, "-m", "dvc", "init", "-fq")
    Path("dvc.yaml").write_text('stages:\n  one: {cmd: "cp params.yaml a", params: [train.epochs], outs: [a]}\n')
    Path(".gitignore").write_text("/a\n/.scratch\n/.prefect\n")
    commit(short_stages, "all")
    code, out, err = main("run", "--set", "train.epochs=77", "--name", "more")
    assert code == 0 and out.endswith("Next     dvc exp apply more\n"), err
    assert run(short_stages, "git", "status", "--porcelain") == "" and not Path("a").exists()
    with DVCFileSystem(str(short_stages), rev="more").open("a") as file:
        assert "epochs: 77" in file.read().decode()
    out = gee(short_stages, "run")[1]
    assert "Running stage 'one'" in out and "git add" not in out  # as DVC proposes


def test_what_cannot_run_is_one_message_before_dvc_starts(main, bare_project):
    (bare_project / "data/raw").mkdir(parents=True)
    problem = f"{bare_project}: in no git repository, which DVC expects"
    remedy = "`git init`, or `dvc config core.no_scm true` (no experiments then)"
    assert main("run") == (2, "", f"gee: error: {problem}: {remedy}\n")
    assert main("run", "--set", "train.lr=-1")[2] == "gee: error: --set train.lr=-1: input should be greater than 0\n"

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gee_core.errors import InputError
from pipelines import cli
from pipelines.studies import study
from pipelines.studies.reports import OUT

SMALL = {"seeds": 1, "grid": {"encoding": [{"label": "unencoded", "control": "plain"}]}, "published": []}


def gee(*arguments: str):
    return CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)


@pytest.fixture(autouse=True)
def own_handlers(project, monkeypatch):
    (project / "dvc.yaml").touch()
    for name in ("exit_on_sigterm", "die_with_parent"):
        monkeypatch.setattr(f"pipelines.runtime.process_tree.{name}", lambda: None)


def test_run_prints_the_table_and_a_line_for_every_cell_and_show_gives_it_again(write_study, quick):
    write_study(**SMALL)
    ran = gee("study", "run", "tiny", "--jobs", "1", "--set", "train.epochs=3")
    assert ran.exit_code == 0
    assert "1 cells, 0 of them done; 1 to run, 1 at once" in ran.stderr
    assert "1/1  encoding = unencoded, seed 0: test accuracy" in ran.stderr
    assert "A tiny study" in ran.stdout
    with pytest.raises(
        InputError, match="tiny: no table yet: run it with `gee study run tiny`"
    ):  # a trial is not in the study's
        gee("study", "show", "tiny")
    page = Path(ran.stdout.split("Tables and plots")[1].strip())
    assert page.parent.parent == (OUT / "tiny/trials").resolve() and "--set train.epochs=3" in page.read_text()
    gee("study", "run", "tiny", "--jobs", "1")
    assert "| unencoded |" in (shown := gee("study", "show", "tiny").stdout) and "`gee study run tiny`" in shown


def test_a_dry_run_lists_the_cells_without_a_result_and_changes_nothing(write_study, quick):
    write_study(**SMALL)
    gee("study", "run", "tiny", "--jobs", "1")
    files = {path: path.stat().st_mtime_ns for path in OUT.rglob("*")}
    more = gee("study", "run", "tiny", "--jobs", "1", "--seeds", "2", "--dry").stdout
    again = gee("study", "run", "tiny", "--jobs", "1", "--force", "--dry").stdout
    assert more.splitlines() == ["2 cells, 1 of them done; 1 to run, 1 at once", "  encoding = unencoded, seed 1"]
    assert again.splitlines() == ["1 cells, 0 of them done; 1 to run, 1 at once", "  encoding = unencoded, seed 0"]
    assert {path: path.stat().st_mtime_ns for path in OUT.rglob("*")} == files


def test_a_study_ends_with_the_flow_that_started_it(write_study, monkeypatch):
    calls = []
    monkeypatch.setattr("pipelines.runtime.process_tree.die_with_parent", lambda: calls.append("die_with_parent"))
    monkeypatch.setattr(study, "run_study", lambda *_: calls.append("run_study") or [])
    write_study()
    gee("study", "run", "tiny")
    assert calls == ["die_with_parent", "run_study"]


def test_list_goes_on_after_a_broken_study(write_study):
    write_study()
    Path("studies/broken.yaml").write_text("title: Broken\n")
    listed = gee("study", "list")
    assert listed.exit_code == 2
    assert "broken           error: studies/broken.yaml: preset is missing" in listed.stdout
    assert listed.stdout.splitlines()[-1].split() == ["tiny", "A", "tiny", "study"]


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"sedes": 3}, [], "gee: error: studies/tiny.yaml: sedes is not a known key: did you mean seeds?"),
        ({}, ["--only", "encoding"], "gee: error: --only encoding: write COLUMN=LABEL"),
        ({"set": {"prepare.dataset": "folder"}}, ["--data", "nowhere"], "the images of folder are not there"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2_before_any_cell_runs(
    write_study, monkeypatch, main, changes, arguments, message
):
    write_study(**changes)
    monkeypatch.setattr(study, "run_cells", lambda *_: pytest.fail("a cell ran"))
    monkeypatch.setattr(cli, "find_project", Path.cwd)
    code, _, error = main("study", "run", "tiny", *arguments)
    assert code == 2
    assert message in error
    assert len(error.splitlines()) == 1

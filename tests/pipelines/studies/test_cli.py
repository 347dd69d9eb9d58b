import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gee_core.errors import InputError
from gee_core.storage.atomic_files import write_json
from gee_core.storage.checksummed_json import write_sealed
from pipelines import cli
from pipelines.project.changes import parse_changes
from pipelines.studies import study
from pipelines.studies.runner import DONE
from pipelines.studies.tables import TextTable

SMALL = {"seeds": 1, "grid": {"encoding": [{"label": "unencoded", "control": "plain"}]}, "published": []}


def gee(*arguments: str):
    return CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)


@pytest.fixture(autouse=True)
def own_handlers(monkeypatch):
    for name in ("exit_on_sigterm", "die_with_parent"):
        monkeypatch.setattr(f"pipelines.runtime.process_tree.{name}", lambda: None)


def test_run_prints_the_table_and_a_line_for_every_cell_and_show_gives_it_again(write_study):
    write_study(**SMALL)
    ran = gee("study", "run", "tiny", "--jobs", "1", "--set", "train.epochs=3")
    assert ran.exit_code == 0
    assert "1 cells, 0 of them done; 1 to run, 1 at once" in ran.stderr
    assert "1/1  encoding = unencoded, seed 0: test accuracy" in ran.stderr
    assert "A tiny study" in ran.stdout
    shown = gee("study", "show", "tiny").stdout
    assert "| unencoded |" in shown
    assert "`gee study run tiny --set train.epochs=3`" in shown
    assert "digits (64 train, 16 holdout, 24 test); seeds [0]" in shown


def test_a_dry_run_lists_the_cells_without_a_result_and_changes_nothing(write_study):
    write_study(**SMALL)
    gee("study", "run", "tiny", "--jobs", "1")
    files = {path: path.stat().st_mtime_ns for path in study.OUT.rglob("*")}
    more = gee("study", "run", "tiny", "--jobs", "1", "--seeds", "2", "--dry").stdout
    again = gee("study", "run", "tiny", "--jobs", "1", "--force", "--dry").stdout
    assert more.splitlines() == ["2 cells, 1 of them done; 1 to run, 1 at once", "  encoding = unencoded, seed 1"]
    assert again.splitlines() == ["1 cells, 0 of them done; 1 to run, 1 at once", "  encoding = unencoded, seed 0"]
    assert {path: path.stat().st_mtime_ns for path in study.OUT.rglob("*")} == files


def test_a_table_without_a_terminal_is_whole_however_wide(write_study, monkeypatch):
    labels = {f"column{i}": f"label number {i}" for i in range(40)} | {"n": "3", "source": "ours"}
    table = TextTable("Wide", list(labels), [list(labels.values())])
    monkeypatch.setattr(study, "run_study", lambda *_: [table])
    write_study()
    shown = gee("study", "run", "tiny").stdout.splitlines()
    assert any(all(header in line for header in table.headers[:-1]) for line in shown)
    assert any(all(label in line for label in table.rows[0][:-1]) for line in shown)


def test_a_study_ends_with_the_flow_that_started_it(write_study, monkeypatch):
    calls = []
    monkeypatch.setattr("pipelines.runtime.process_tree.die_with_parent", lambda: calls.append("die_with_parent"))
    monkeypatch.setattr(study, "run_study", lambda *_: calls.append("run_study") or [])
    write_study()
    gee("study", "run", "tiny")
    assert calls == ["die_with_parent", "run_study"]


def test_show_names_the_images_of_all_cells(write_study, monkeypatch, digits, tmp_path):
    fewer = tmp_path / "fewer"
    shutil.copytree(digits, fewer)
    meta = json.loads((fewer / "meta.json").read_text())
    images = {64: digits, 60: fewer}
    write_json(fewer / "meta.json", meta | {"n_train": 60, "dataset": "folder"})
    grid = {"encoding": [{"label": "unencoded", "control": "plain"}], "prepare.max_train_images": [64, 60]}
    write_study(**SMALL | {"grid": grid})
    monkeypatch.setattr(study, "prepare_images", lambda cfg: images[cfg.max_train_images])

    def finish(cells, folder, jobs, commit, on_note):
        for cell in cells:
            write_sealed(folder / f"{cell.key}.json", {"status": "ok", "metrics": {"test_accuracy": 0.5}, "commit": None})
            on_note(cell, DONE)

    monkeypatch.setattr(study, "run_cells", finish)
    assert gee("study", "run", "tiny").exit_code == 0
    assert "digits or folder (64 or 60 train, 16 holdout, 24 test); seeds [0]" in gee("study", "show", "tiny").stdout


def test_show_of_a_study_that_was_never_run_says_what_would_be(write_study):
    write_study()
    shown = gee("study", "show", "tiny").stdout
    assert "Not run yet: `gee study run tiny` runs 4 cells:" in shown
    assert "encoding = unencoded" in shown


def test_show_of_a_study_that_was_interrupted_counts_its_own_results_and_names_its_own_command(write_study, monkeypatch):
    def one_result(cells, folder, jobs, commit, on_note):
        write_sealed(folder / f"{cells[0].key}.json", {"status": "ok", "metrics": {}, "commit": None})
        raise KeyboardInterrupt

    write_study()
    for key in ("a", "b"):  # of other requests
        write_json(study.OUT / f"tiny/cells/{key}.json", {})
    shown = gee("study", "show", "tiny").stdout
    assert (
        "has 4 cells, of which those with a result are not run again; reports/studies/tiny/cells holds 2. All cells:" in shown
    )
    monkeypatch.setattr(study, "run_cells", one_result)
    gee("study", "run", "tiny", "--seeds", "3", "--only", "encoding=unencoded")
    shown = gee("study", "show", "tiny").stdout
    command = "gee study run tiny --seeds 3 --only encoding=unencoded"
    assert f"Not finished, 1 of 3 cells have a result: `{command}` goes on. All cells:" in shown
    assert shown.splitlines()[2:] == ["  encoding = unencoded"]


def test_list_names_every_study_with_its_title(write_study):
    write_study()
    assert gee("study", "list").stdout.split() == ["tiny", "A", "tiny", "study"]


def test_list_goes_on_behind_a_broken_study(write_study):
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
        ({"grid": {}}, [], "gee: error: studies/tiny.yaml: grid: is empty"),
        ({}, ["--set", "train.epochs"], "gee: error: --set train.epochs: write section.key=value"),
        ({}, ["--only", "encoding"], "gee: error: --only encoding: write COLUMN=LABEL"),
        ({}, ["--set", "train.epochs=[1"], "gee: error: --set train.epochs=[1: '[1' is not a YAML value"),
        ({}, ["--preset", "nosuch"], "gee: error: unknown preset 'nosuch'"),
        ({}, ["--set", "evolve.start=inputs/no.json"], "gee: error: evolve.start = inputs/no.json: cannot be read"),
        ({}, ["--set", "evolve.start=old.json"], "gee: error: evolve.start = old.json: not in the folder inputs/"),
        ({}, ["--set", "train.init_from=inputs/no"], "gee: error: train.init_from = inputs/no: inputs/no: no such file"),
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


@pytest.mark.parametrize(("options", "same"), [([], "the same command"), (["-f"], "the same command without --force")])
def test_an_interruption_says_how_to_go_on(write_study, monkeypatch, options, same):
    def interrupted(*_):
        raise KeyboardInterrupt

    write_study()
    monkeypatch.setattr(study, "run_cells", interrupted)
    ran = gee("study", "run", "tiny", *options)
    assert ran.exit_code == 130
    assert f"gee: interrupted; {same} continues where it stopped" in ran.stderr


def test_values_of_changes_are_read_as_yaml():
    changes = ["a.b=1", "a.c=1e-3", "a.d=null", "a.e=[1, 2]", "a.f=ste", "a.g=true"]
    assert parse_changes(changes) == {"a.b": 1, "a.c": 1e-3, "a.d": None, "a.e": [1, 2], "a.f": "ste", "a.g": True}
    with pytest.raises(InputError, match=r"write section\.key=value"):
        parse_changes(["epochs=3"])

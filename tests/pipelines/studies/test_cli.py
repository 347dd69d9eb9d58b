import json
from pathlib import Path

import pytest

from gee_core.errors import InputError
from pipelines.studies.reports import OUT
from tests.pipelines.test_cli import gee

SMALL = {"seeds": 1, "grid": {"encoding": [{"label": "unencoded", "control": "plain"}]}, "published": []}


@pytest.fixture(autouse=True)
def handlers(project, monkeypatch) -> list[str]:
    """The names of the handlers that the command has set."""
    names: list[str] = []
    (project / "dvc.yaml").touch()
    for name in ("exit_on_sigterm", "die_with_parent"):
        monkeypatch.setattr(f"pipelines.runtime.process_tree.{name}", lambda name=name: names.append(name))
    return names


def test_run_prints_every_cell_and_the_table_which_show_gives_again(write_study, quick, handlers):
    write_study(**SMALL)
    ran = gee("study", "run", "tiny", "--jobs", "1", "--set", "train.epochs=3")
    assert ran.exit_code == 0 and handlers == ["exit_on_sigterm", "die_with_parent"]
    said = [line.partition(" in ")[0] for line in ran.stderr.splitlines()]
    cell = "1/1  encoding = unencoded, seed 0: test accuracy (%) 50.00"
    assert said == ["1 cells, 0 of them done; 1 to run", cell, "cells 1/1 100 %"]
    assert "A tiny study" in ran.stdout and "`gee study run tiny --set train.epochs=3`" in ran.stdout
    trial = Path(ran.stdout.split("Tables and plots")[1].strip())
    assert trial.parent == (OUT / "tiny/trials").resolve()
    gee("study", "run", "tiny", "--jobs", "1")
    assert "| unencoded |" in (shown := gee("study", "show", "tiny").stdout) and "`gee study run tiny`" in shown
    assert shown.endswith(f"\nAlso  {trial.relative_to(Path.cwd())}/table.md\n")


def test_a_dry_run_lists_the_cells_without_a_result_and_changes_nothing(write_study, quick):
    write_study(**SMALL)
    gee("study", "run", "tiny", "--jobs", "1")
    files = {path: path.stat().st_mtime_ns for path in OUT.rglob("*")}
    more = gee("study", "run", "tiny", "--seeds", "2", "--dry").stdout
    again = gee("study", "run", "tiny", "--force", "--dry").stdout
    assert more.splitlines() == ["2 cells, 1 of them done; 1 to run", "  encoding = unencoded, seed 1"]
    assert again.splitlines() == ["1 cells, 0 of them done; 1 to run", "  encoding = unencoded, seed 0"]
    assert {path: path.stat().st_mtime_ns for path in OUT.rglob("*")} == files


def test_an_unknown_study_a_missing_table_and_a_bad_choice_say_how_to_mend_it(write_study):
    write_study()
    with pytest.raises(InputError, match="unknown study 'tinny': choose one of tiny"):
        gee("study", "show", "tinny")
    with pytest.raises(InputError, match="tiny: no table yet: run it with `gee study run tiny`"):
        gee("study", "show", "tiny")
    with pytest.raises(InputError, match="--only encoding: write COLUMN=LABEL, for instance network=ResNet-19"):
        gee("study", "run", "tiny", "--only", "encoding")


def test_list_goes_on_after_a_broken_study(write_study):
    write_study()
    Path("studies/broken.yaml").write_text("title: Broken\n")
    listed = gee("study", "list")
    assert listed.exit_code == 2
    assert "broken           error: studies/broken.yaml: preset is missing" in listed.stdout
    assert listed.stdout.splitlines()[-1].split() == ["tiny", "A", "tiny", "study"]
    assert json.loads(gee("study", "list", "--json").stdout) == {"tiny": "A tiny study"}

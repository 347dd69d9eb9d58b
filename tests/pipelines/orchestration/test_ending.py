import shutil
from pathlib import Path

import pytest

from pipelines.orchestration.ending import print_ending
from pipelines.orchestration.request import COMPARE
from tests.project_copy import ROOT


@pytest.fixture
def ending(tmp_path, monkeypatch, capsys):
    """Lines that are printed in a narrow terminal, in a project that has results."""
    (tmp_path / "reports").mkdir()
    shutil.copy(ROOT / "reports/summary.json", tmp_path / "reports")
    (tmp_path / "reports/index.html").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "40")

    def lines(*arguments) -> list[str]:
        print_ending(*arguments)
        return capsys.readouterr().out.splitlines()

    return lines


def test_a_line_for_each_stage_then_the_results_and_where_to_look(ending, tmp_path):
    lines = ending({"check": "cached", "report": "ran"}, "1-2", None)
    assert lines[:3] == ["check   cached", "report  ran", ""]
    assert any("test accuracy" in line for line in lines)
    assert lines[-5:] == [
        "",
        f"Report   {(tmp_path / 'reports/index.html').as_uri()}",
        "Runs     gee ui",
        "Flow     prefect server start",
        "         then http://127.0.0.1:4200/runs/flow-run/1-2",
    ]


def test_a_part_of_the_stages_shows_no_results_of_an_earlier_run(ending):
    lines = ending({"check": "cached", "train": "ran"}, "1-2", None)
    assert lines[:4] == ["check  cached", "train  ran", "", "Runs     gee ui"]


def test_an_experiment_names_its_commands_and_a_server_that_stays_up_the_page_itself(ending, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://there/api")
    commands = []
    monkeypatch.setattr("subprocess.run", lambda command: commands.append(command[3:]))
    lines = ending({"report": "ran"}, "1-2", "eager-fox-ab12")
    assert not any("test accuracy" in line for line in lines)  # those in the project are of another run
    words = ["Flow     http://there/runs/flow-run/1-2", f"Results  {COMPARE}", "Next     dvc exp apply eager-fox-ab12"]
    assert list(filter(None, lines[-5:])) == words
    ending({"train": "ran"}, "1-2", "fox")  # no results
    Path("reports/index.html").unlink()
    ending({"report": "ran"}, "1-2", "fox")  # no run here, and the results are those of the clone
    assert commands == [["metrics", "diff", "--no-path", "--precision", "6", "workspace", "eager-fox-ab12"]]

import shutil
from pathlib import Path

import pytest

from pipelines.orchestration.ending import print_ending

ROOT = Path(__file__).resolve().parents[3]


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
    lines = ending({"report": "ran"}, "1-2", "eager-fox-ab12")
    assert not any("test accuracy" in line for line in lines)  # those in the project are of another run
    assert lines[-3:] == [
        "Flow     http://there/runs/flow-run/1-2",
        "Results  dvc exp show --only-changed",
        "Next     dvc exp apply eager-fox-ab12",
    ]

import subprocess

import pytest

from pipelines.orchestration import study_flow
from pipelines.studies.cell import Request
from pipelines.studies.display import TRACKED

PAGE = "http://127.0.0.1:5000/#/experiments/1/runs/2?workflowType=machine_learning"


@pytest.fixture
def ended(monkeypatch):
    """Make `gee study run` end with an output and an exit code."""

    def end(output: str, code: int = 0) -> None:
        monkeypatch.setattr(study_flow, "run_in_group", lambda *_, **__: subprocess.CompletedProcess([], code, output))

    monkeypatch.setattr(study_flow, "Watcher", lambda: None)
    return end


@pytest.mark.parametrize(("output", "page"), [(f"2 cells\n{TRACKED}{PAGE}\nTables and plots\n", PAGE), ("2 cells\n", None)])
def test_a_study_that_ran_tells_the_page_of_its_run_in_mlflow(output, page, ended):
    ended(output)
    assert study_flow.run_study.fn(Request("noise"), force=False) == page


def test_a_study_that_failed_says_why_in_the_message_of_its_state(ended):
    ended("2 cells\ngee: error: data/raw: missing\n", 2)
    state = study_flow.run_study.fn(Request("noise"), force=False)
    assert (state.is_failed(), state.data) == (True, "2 cells\ngee: error: data/raw: missing")
    assert state.message == "study noise failed (exit code 2): gee: error: data/raw: missing"

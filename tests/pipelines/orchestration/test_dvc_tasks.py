import pytest

from pipelines.orchestration import dvc_tasks
from pipelines.orchestration.dvc_tasks import run_stage

SKIPPED = "Stage 'train' didn't change, skipping"
CACHED = "Stage 'train' is cached - skipping run, checking out outputs"


@pytest.mark.parametrize(("words", "name"), [("Running stage 'train':", None), (SKIPPED, "Skipped"), (CACHED, "Cached")])
def test_a_stage_that_did_not_run_has_a_state_that_says_so(words, name, monkeypatch):
    monkeypatch.setattr(dvc_tasks, "_dvc", lambda arguments, execution: (words, 0))
    state = run_stage.fn("train", "execution", force=False)
    assert state == "ran" if name is None else (state.name, state.is_completed(), state.data) == (name, True, name.lower())


def test_a_stage_that_failed_says_why_in_the_message_of_its_state(monkeypatch):
    output = "train: error: a.npy: missing\nERROR: failed to reproduce 'train'\n"
    monkeypatch.setattr(dvc_tasks, "_dvc", lambda arguments, execution: (output, 255))
    state = run_stage.fn("train", "execution", force=False)
    assert (state.is_failed(), state.data) == (True, output.strip())
    assert state.message == "stage train failed (exit code 255): train: error: a.npy: missing"

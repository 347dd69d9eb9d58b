"""Candidates that failed by the machine or by their network's code, not by their numbers."""

import pytest

from gee_core.errors import DivergedError, InputError
from gee_core.evolution.candidate import failed
from gee_core.evolution.proxy import score
from gee_core.storage.csv_rows import csv_text
from pipelines import evolve

DIED = "its worker process died every time (out of memory?)"


def test_what_the_machine_has_failed_is_tried_again_by_the_next_run(digits, make_params, tmp_path, here_and_now, monkeypatch):
    params = make_params()
    for name in ("whole", "hit"):
        (tmp_path / name).mkdir()
    whole = evolve.run(params, digits, tmp_path / "whole")
    monkeypatch.setattr(here_and_now, "score", lambda task, c: failed(DIED) if c.place == (1, 1) else score(task, c))
    assert [r.ok for r in evolve.run(params, digits, tmp_path / "hit").records] == [True] * 4 + [False, True]
    monkeypatch.setattr(here_and_now, "score", score)
    here_and_now.scored.clear()
    again = evolve.run(params, digits, tmp_path / "hit")
    assert here_and_now.scored == [(1, 1)]
    assert csv_text(evolve.table(again, params)) == csv_text(evolve.table(whole, params))


@pytest.mark.parametrize(
    ("reason", "remedy", "n_scored"),
    [
        (DIED, "lower the batch_size of this stage, GEE_WORKERS or", 3),
        ("OutOfMemoryError: CUDA out of memory", "lower the batch_size of this stage, GEE_WORKERS or", 3),
        ("RuntimeError: can't start new thread", "raise the limit of processes (`ulimit -u`), or lower GEE_WORKERS and", 3),
        ("RuntimeError: mat1 and mat2 shapes cannot be multiplied", "correct what the error names", 3),
        ("FloatingPointError: the training loss is nan", "lower evolve.lr or narrow evolve.bound", 6),
        ("L_ce = nan, R_T = 0, R_S = 0 on the hold-out", "lower evolve.lr or narrow evolve.bound", 6),
    ],
)
def test_the_remedy_is_that_of_the_reason_and_a_reason_that_hits_all_ends_the_search_at_once(
    reason, remedy, n_scored, digits, make_params, tmp_path, here_and_now, monkeypatch
):
    monkeypatch.setattr(here_and_now, "score", lambda task, candidate: failed(reason))
    with pytest.raises(InputError) as caught:
        evolve.run(make_params(), digits, tmp_path)
    assert isinstance(caught.value, DivergedError) == (n_scored == 6)  # which a study takes for a result
    which = "6 candidates" if n_scored == 6 else "3 candidates of the first generation"
    assert str(caught.value).startswith(f"evolve: all {which} failed; the first: failed: {reason}: {remedy}")
    assert len(here_and_now.scored) == n_scored


def test_where_all_failed_by_several_reasons_the_remedy_is_that_of_most_and_a_study_tries_again(
    digits, make_params, tmp_path, here_and_now, monkeypatch
):
    nan = "FloatingPointError: the training loss is nan"
    monkeypatch.setattr(here_and_now, "score", lambda task, c: failed(nan if c.place == (0, 0) else DIED))
    message = "all 6 candidates failed; most of them: failed: its worker .*: lower the batch"
    with pytest.raises(InputError, match=message) as caught:
        evolve.run(make_params(), digits, tmp_path)
    assert not isinstance(caught.value, DivergedError)

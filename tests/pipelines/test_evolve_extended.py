"""Evolutions that go on with the scores of one with fewer or more generations, or with other candidates scored again."""

import hashlib
import shutil

import pytest

from gee_core.config.evolve import Rescore
from pipelines import evolve
from tests.pipelines.conftest import write_params
from tests.pipelines.test_evolve_stage import contents, run_main

AGAIN = {"rescore": Rescore(top=1, draws=2)}


def run_known_to_dvc(folder, monkeypatch):
    """Run the stage, and let dvc.lock have its result."""
    tracked = run_main(monkeypatch)
    md5 = hashlib.md5((folder / "reports/evolve/metrics.json").read_bytes()).hexdigest()
    (folder / "dvc.lock").write_text(f"md5: {md5}")
    return tracked


@pytest.mark.parametrize(
    ("before", "after", "scored_anew"),
    [
        ({}, {"n_generations": 3}, {2}),
        ({}, AGAIN, {2}),
        (AGAIN, AGAIN | {"n_generations": 3}, {2, 3}),
    ],
)
def test_a_finished_run_that_is_changed_in_its_length_alone_takes_over_all_scores_and_ends_in_the_bytes_of_a_new_one(
    before, after, scored_anew, in_project, make_params, monkeypatch, here_and_now
):
    folder = in_project(evolve=before)
    first = run_known_to_dvc(folder, monkeypatch)
    write_params(folder / "params.yaml", make_params(evolve=after))
    here_and_now.scored.clear()
    second = run_main(monkeypatch)
    extended = contents(folder)
    assert {generation for generation, _ in here_and_now.scored} == scored_anew
    assert second.times[:6] == first.times[:6][: len(second.times)]
    shutil.rmtree(folder / ".scratch")
    run_main(monkeypatch)
    assert contents(folder) == extended


def test_a_killed_run_is_extended_too(in_project, make_params, monkeypatch, here_and_now):
    folder = in_project()
    with monkeypatch.context() as patch:

        def stop(track, record, *_):
            if record.candidate.place == (1, 1):
                raise KeyboardInterrupt

        patch.setattr(evolve, "track_candidate", stop)
        with pytest.raises(SystemExit):
            run_main(patch)
    write_params(folder / "params.yaml", make_params(evolve={"n_generations": 3}))
    here_and_now.scored.clear()
    run_main(monkeypatch)
    extended = contents(folder)
    assert here_and_now.scored == [(1, 2), (2, 0), (2, 1), (2, 2)]
    shutil.rmtree(folder / ".scratch")
    run_main(monkeypatch)
    assert contents(folder) == extended

"""The runs of a search in MLflow: each candidate once, however often it is repeated, how it is ranked, and its views."""

import json
import shutil
from types import SimpleNamespace as Values

import pytest

from gee_core.evolution.candidate import Candidate, Score
from gee_core.evolution.loop import Record
from gee_core.genome.genotype import configured_genotype
from pipelines.tracking import evolution, publish
from pipelines.tracking.evolution import track_candidate
from pipelines.tracking.tags import NOTE
from pipelines.tracking.tracker import Tracker
from tests.pipelines.conftest import analytic_file
from tests.pipelines.tracking.conftest import KEYS, by_level, candidate, publish_all


def test_a_search_has_a_view_of_its_candidates_and_one_of_its_draws_to_which_its_runs_link(client, folder):
    tracker = Tracker("evolve", KEYS)
    tracker.search("search", ["gene.sigma_O"], ["L_ce", "energy_uj"])
    shutil.copytree(tracker.folder, folder / "kept")
    tracker.close("FINISHED")
    report = Tracker("report", KEYS)
    report.tags({NOTE: "the table"}, shared=True)
    report.close()
    (evolve, _), (pipeline,) = (by_level(client, level) for level in ("stage", "pipeline"))
    tags, run_id = client.experiments["gee"].tags, evolve.info.run_id
    for level in ("candidate", "rescore"):
        view = json.loads(tags[f"mlflow.sharedViewState.{level}s-{run_id}"])
        query = f"tags.\"gee.level\" = '{level}' and tags.\"mlflow.parentRunId\" = '{run_id}'"
        assert (view["searchFilter"], view["orderByKey"]) == (query, "metrics.`rank`")
        assert view["selectedColumns"][-1] == "metrics.`gene.sigma_O`"
        assert [chart["type"] for chart in view["compareRunCharts"]] == ["SCATTER", "PARALLEL"]
        for run in (evolve, pipeline):
            assert f"viewStateShareKey={level}s-{run_id}&" in run.data.tags["mlflow.note.content"]
    shutil.move(folder / "kept", tracker.folder)
    publish_all()  # again, as after a kill
    assert pipeline.data.tags["mlflow.note.content"].endswith("\n\nthe table")


def track_search(status: str, names: list[str], failed: tuple[str, ...] = (), gene: float = 0.5) -> None:
    """Track a search that knows or scores the candidates ``names`` and then ends; all but the first have the ``gene``."""
    tracker = Tracker("evolve", KEYS)
    tracker.search("search", [], [])
    for name in names:
        sigma_O = 0.1 if name == names[0] else gene
        label = f"{name}-{sigma_O}{' failed' if name in failed else ''}"
        tracker.child(label, candidate(name, None if name in failed else sigma_O, sigma_O))
    if status == "FINISHED":
        point = {"final_fitness": 0.5}
        tracker.mark({name: (point, {"gee.winner": "true"} if name == names[0] else {}) for name in names})
    tracker.close(status)


def parents(client) -> list[list[str]]:
    """Names of the candidates below each run of a stage."""
    runs = [(run.data.tags["mlflow.parentRunId"], run.info.run_name) for run in by_level(client, "candidate")]
    return [sorted(name for above, name in runs if above == stage.info.run_id) for stage in by_level(client, "stage")]


@pytest.mark.parametrize("is_away", [False, True])
def test_a_search_that_is_resumed_or_repeated_has_all_candidates_and_each_is_there_once(client, folder, is_away, monkeypatch):
    if is_away:
        monkeypatch.setattr(publish, "wait", lambda *_: (None, []))
    for status, names in [("KILLED", "ab"), ("FAILED", "abc"), ("FINISHED", "abcd"), ("FINISHED", "abcd")]:
        track_search(status, list(names))
    publish_all()
    assert parents(client) == [[], ["a", "b", "c", "d"]]  # the runs of the interrupted attempts have gone
    candidates = by_level(client, "candidate")
    assert [[point[3] for point in run.points if point[0] == "final_fitness"] for run in candidates] == [[0.5]] * 4  # once each
    assert [run.data.tags.get("gee.winner") for run in candidates] == ["true", None, None, None]
    assert {run.data.tags["gee.work"] for run in by_level(client, "stage")} == {"search"}


def test_a_candidate_that_a_kill_left_half_written_is_completed(client, folder):
    track_search("KILLED", ["a"])
    (half,) = by_level(client, "candidate")
    half.info.status = "KILLED"  # as one whose process is gone
    half.data.params.clear(), half.points.clear()
    track_search("FINISHED", ["a"])
    (run,) = by_level(client, "candidate")
    assert (run.info.status, run.data.params["sigma_O"], run.files) == ("FINISHED", "0.1", {"genotype.json": "{}"})
    assert {"fitness", "final_fitness"} <= {name for name, *_ in run.points}


def test_a_resumed_search_takes_over_no_candidate_that_has_other_genes_or_another_end_by_now(client, folder):
    track_search("KILLED", ["a", "b", "c"], failed=("b",))
    track_search("FINISHED", ["a", "b", "c"], gene=0.25)  # b did not fail again, so that c has other genes
    assert parents(client) == [["a", "b", "c"]]
    assert len(by_level(client, "candidate")) == 5


class Told:
    """What a tracker is told of candidates: (label, run)."""

    def __init__(self):
        self.children = []

    def child(self, label, run):
        self.children.append((label, run))


def test_a_candidate_is_known_by_its_genes_and_numbers_and_lasts_as_its_scoring(make_params):
    params, told = make_params(), Told()
    scores = [(7, 9.25, 1.0, "ok"), (7, 1.0, 1.0, "ok"), (8, 9.25, 1.0, "ok"), (7, 9.25, 2.0, "ok")]
    for seed, seconds, loss, status in [*scores, (7, 1.0, 1.0, "failed: no"), (7, 1.0, 1.0, "outside: energy_uj")]:
        score = Score(L_ce=loss, TSE=1.0, R_T=0.0, var_o=0.0, R_S=0.0, proxy_accuracy=0.5, status=status)
        record = Record(Candidate(0, 1, seed, configured_genotype(params.network)), score, 1.0, 1.0, seconds)
        track_candidate(told, record, analytic_file(params), 1_700_000_009.5)
    labels, runs = zip(*told.children, strict=True)
    assert labels[0] == labels[1] and len(set(labels)) == 5
    assert [run.status for run in runs] == [*["FINISHED"] * 4, "FAILED", "FINISHED"]
    assert (runs[0].start, runs[0].time, runs[0].name) == (1_700_000_000_250, 1_700_000_009_500, "gen0-cand1")
    assert (runs[2].params["wiring_seed"], runs[4].tags["status"]) == ("8", "failed: no") and "seed" not in runs[0].params
    assert {"L_ce", "seconds", "gene.sigma_O", "generation"} < runs[0].metrics.keys()
    assert '"genes"' in runs[0].texts["genotype.json"]


def test_draws_are_ranked_by_the_mean_of_their_candidate_before_their_own_fitness(make_params, monkeypatch):
    genotype, marks = configured_genotype(make_params().network), {}
    candidates = [Candidate(0, i % 2, i, genotype, rescored=label) for i, label in enumerate(["", "", "0-0", "0-1"])]
    monkeypatch.setattr(evolution, "fresh_fitness", lambda *_: {"0-0": [2.0], "0-1": [1.0]})
    monkeypatch.setattr(evolution, "final_fitness", lambda *_: [0.1, 0.2, 0.3, 0.4])
    tracker = Values(mark=marks.update, tags=lambda _: None, metrics=lambda *_, **__: None)
    evolution.track_winner(tracker, [Values(candidate=c) for c in candidates], candidates[3], make_params())
    ranks = [marks[evolution.candidate_name(c)][0] for c in candidates]
    assert [values["rank"] for values in ranks] == [2, 1, 2, 1]  # also of the search: its winner is the first
    assert [values["fresh_fitness"] for values in ranks] == [2.0, 1.0, 2.0, 1.0]
    assert ["winner" in values for values in ranks] == [False, True, False, True]

"""The runs of a pipeline in MLflow: what they are called, how long they last, how they are found, and what stops no stage."""

import contextlib
import json
import os
from pathlib import Path

import psutil
import pytest

from pipelines.project import presets
from pipelines.project.params import load_params
from pipelines.project.presets import load_preset
from pipelines.tracking import drain as drains
from pipelines.tracking import pipeline_run
from pipelines.tracking import tracker as tracker_module
from pipelines.tracking.entries import describe_dataset
from pipelines.tracking.experiment_page import EXPERIMENT_TAGS, run_address
from pipelines.tracking.outbox import Outbox
from pipelines.tracking.pipeline_run import origin_tags, pipeline_name
from pipelines.tracking.tracker import Tracker, open_tracker, tracked_execution
from tests.pipelines.tracking.conftest import GONE, KEYS, META, by_level, drain, outboxes
from tests.wait_until import wait_until

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("changes", "experiment", "name"),
    [
        ({}, None, "digits"),
        ({"network.n_genes": 16, "train.lr": 0.02}, None, "digits · g=16 · lr=0.02"),
        ({"network.n_genes": "null"}, "wide-net", "digits · g=null · wide-net"),
        ({f"train.{key}": 1 for key in "abcde"}, None, "digits · a=1 · b=1 · c=1 · 2 more"),
    ],
)
def test_a_pipeline_run_is_called_by_what_differs_from_its_preset(changes, experiment, name, monkeypatch):
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    if experiment:
        monkeypatch.setenv("DVC_EXP_NAME", experiment)
    assert pipeline_name("digits", changes) == name


def test_the_run_of_a_pipeline_has_the_changes_to_its_preset_by_key(client, folder, monkeypatch):
    monkeypatch.setenv("GEE_TRACKING", "on")
    monkeypatch.setattr(presets, "PRESETS", ROOT / "presets")
    params = load_preset("digits").params
    network = params.network.model_copy(update={"n_genes": 16})
    open_tracker("prepare", params.model_copy(update={"network": network})).close()
    (run,) = by_level(client, "pipeline")
    assert (run.info.run_name, run.data.params["changed"]) == ("digits · g=16", "network.n_genes=16")


def test_the_curves_of_the_loss_and_the_fitness_are_on_the_pipelines_run_too_and_energies_in_microjoules(client, folder):
    tracker = Tracker("train", KEYS)
    for epoch in (1, 2):
        tracker.metrics({"train_loss": 1 / epoch, "lr": 0.1}, epoch)
    tracker.metrics({"train_loss": 9.0, "energy_mj": 0.002})
    tracker.close()
    (pipeline,), (stage,) = (by_level(client, level) for level in ("pipeline", "stage"))
    assert {(name, step, value) for name, step, _, value in pipeline.points} == {
        ("curves/train_loss", 1, 1.0),
        ("curves/train_loss", 2, 0.5),
    }
    assert ("energy_uj", 2.0) in {(name, value) for name, _, _, value in stage.points}


def test_a_search_has_a_view_of_its_candidates_and_one_of_its_draws_to_which_its_runs_link(client, folder):
    tracker = Tracker("evolve", KEYS)
    tracker.search(["gene.sigma_O"], ["L_ce", "energy_uj"])
    tracker.candidate({"rescored": ""}, {"rank": 1.0}, "gen0-cand0", "ok", {}, (1.0, 2.0))
    tracker.candidate({"rescored": "0-0"}, {"rank": 1.0}, "rescore-0-0-draw0", "ok", {}, (1.0, 2.0))
    tracker.result({}, {}, "the table", [])
    tracker.close()
    ((evolve,), (pipeline,), (candidate,), (draw,)) = (
        by_level(client, level) for level in ("stage", "pipeline", "candidate", "rescore")
    )
    assert (candidate.info.run_name, draw.info.run_name) == ("gen0-cand0", "rescore-0-0-draw0")
    tags, run_id = client.experiments["gee"].tags, evolve.info.run_id
    for level in ("candidate", "rescore"):
        view = json.loads(tags[f"mlflow.sharedViewState.{level}s-{run_id}"])
        query = f"tags.\"gee.level\" = '{level}' and tags.\"mlflow.parentRunId\" = '{run_id}'"
        assert (view["searchFilter"], view["orderByKey"]) == (query, "metrics.`rank`")
        assert view["selectedColumns"][-1] == "metrics.`gene.sigma_O`"
        assert [chart["type"] for chart in view["compareRunCharts"]] == ["SCATTER", "PARALLEL"]
        for run in (evolve, pipeline):
            assert f"viewStateShareKey={level}s-{run_id}&" in run.data.tags["mlflow.note.content"]
    assert pipeline.data.tags["mlflow.note.content"].endswith("\n\nthe table")


def test_a_candidate_lasts_as_long_as_its_scoring_did(client, folder):
    tracker = Tracker("evolve", KEYS)
    tracker.candidate({}, {"fitness": 1.0}, "cand0", "ok", {}, (1_700_000_000.25, 1_700_000_009.5))
    tracker.close()
    (run,) = by_level(client, "candidate")
    assert (run.info.start_time, run.info.end_time) == (1_700_000_000_250, 1_700_000_009_500)


def track_search(folder, status: str, names: list[str], failed: tuple[str, ...] = (), gene: float = 0.5) -> None:
    """Track a search that knows or scores the candidates ``names`` and then ends; all but the first have the ``gene``."""
    tracker = Tracker("evolve", KEYS)
    tracker.continues(folder)
    for name in names:
        sigma_O = 0.1 if name == names[0] else gene
        metrics, end = ({}, "failed: it died") if name in failed else ({"fitness": sigma_O}, "ok")
        tracker.candidate({"index": name, "sigma_O": sigma_O}, metrics, name, end, {}, (1_700_000_000, 1_700_000_009))
    if status == "FINISHED":
        tracker.winner(names[:1], {name: {"final_fitness": 0.5} for name in names})
    tracker.close(status)


def parents(client) -> dict[str, list[str]]:
    """Names of the candidates below each run of a stage."""
    found = {run.info.run_id: [] for run in by_level(client, "stage")}
    for run in by_level(client, "candidate"):
        found[run.data.tags["mlflow.parentRunId"]].append(run.info.run_name)
    return {run_id: sorted(names) for run_id, names in found.items()}


@pytest.mark.parametrize("written", ["at once", "at the end"])
def test_a_search_that_is_resumed_has_the_candidates_of_the_killed_ones_and_each_is_there_once(
    client, folder, monkeypatch, written
):
    with monkeypatch.context() as patch:
        if written == "at the end":  # MLflow was away
            patch.setattr(drains, "wait", lambda *_: None)
        for status, names in {"KILLED": ["a", "b"], "FAILED": ["a", "b", "c"], "FINISHED": ["a", "b", "c", "d"]}.items():
            track_search(folder, status, names)
    drain()
    assert list(parents(client).values()) == [[], [], ["a", "b", "c", "d"]]
    candidates = by_level(client, "candidate")
    assert {value for run in candidates for name, _, _, value in run.points if name == "final_fitness"} == {0.5}
    assert [run.data.tags.get("gee.winner") for run in candidates] == ["true", None, None, None]
    assert len({run.data.tags["gee.work"] for run in by_level(client, "stage")}) == 1


def test_a_candidate_that_a_kill_left_half_written_is_completed(client, folder):
    track_search(folder, "KILLED", ["a"])
    (half,) = by_level(client, "candidate")
    half.info.status = "KILLED"  # as one whose process is gone
    half.data.params.clear(), half.points.clear()
    track_search(folder, "FINISHED", ["a"])
    (run,) = by_level(client, "candidate")
    assert (run.info.status, run.data.params["sigma_O"]) == ("FINISHED", "0.1")
    assert {"fitness", "winner"} < {name for name, *_ in run.points}


def test_a_resumed_search_takes_over_no_candidate_that_has_other_genes_or_another_end_by_now(client, folder):
    track_search(folder, "KILLED", ["a", "b", "c"], failed=("b",))
    track_search(folder, "FINISHED", ["a", "b", "c"], gene=0.25)  # b did not fail again, so that c has other genes
    assert list(parents(client).values()) == [["b", "c"], ["a", "b", "c"]]
    ends = [(run.info.run_name, run.data.params["status"], run.data.params["sigma_O"]) for run in by_level(client, "candidate")]
    expected = [
        ("a", "ok", "0.1"),
        ("b", "failed: it died", "0.5"),
        ("b", "ok", "0.25"),
        ("c", "ok", "0.25"),
        ("c", "ok", "0.5"),
    ]
    assert sorted(ends) == expected


def test_a_search_that_reads_what_a_finished_one_found_takes_no_candidate_from_it(client, folder):
    track_search(folder, "FINISHED", ["a"])
    (folder / "done").touch()
    track_search(folder, "FINISHED", ["a"])
    assert list(parents(client).values()) == [["a"], ["a"]]


def test_a_stage_that_failed_says_why_on_its_run_and_on_that_of_its_pipeline(client, folder):
    tracker = Tracker("train", KEYS)
    tracker.close("FAILED", "data/prepared: missing; " + 600 * "x")
    tags = [run.data.tags["gee.error"] for level in ("stage", "pipeline") for run in by_level(client, level)]
    assert tags == ["data/prepared: missing; " + 476 * "x"] * 2


def test_the_images_of_training_and_test_are_two_inputs_of_the_pipelines_run(client, folder):
    tracker = Tracker("evaluate", KEYS)
    tracker.dataset(META, "training")
    tracker.dataset(META, "testing")
    tracker.close()
    (run,) = by_level(client, "pipeline")
    assert run.inputs == {("digits", META.digest), ("digits", f"{META.digest}-test")}
    profiles = [json.loads(describe_dataset(META, context)["profile"]) for context in ("training", "testing")]
    assert [profile.get("class_counts") for profile in profiles] == [[30, 34], None]  # they are those of the training images


def test_a_flow_that_opens_its_tracker_at_its_end_ends_the_run_that_its_stages_made(client, stage, monkeypatch):
    monkeypatch.setenv("GEE_EXECUTION", pipeline_run.execution_key())
    stage()
    drain()
    (run,) = by_level(client, "pipeline")
    assert run.info.status == "RUNNING"
    monkeypatch.delenv("GEE_EXECUTION")
    flow = Tracker(None, KEYS)
    flow.tags({"stage.evolve": "ran"})
    flow.close("FAILED")
    assert by_level(client, "pipeline") == [run]
    assert (run.info.status, run.data.tags["stage.evolve"]) == ("FAILED", "ran")
    assert run.info.end_time >= run.info.start_time


def test_the_run_of_a_flow_that_was_killed_before_it_opened_its_tracker_is_ended_with_the_last_below_it(
    client, stage, monkeypatch
):
    monkeypatch.setenv("GEE_EXECUTION", GONE)
    stage()
    drain()
    (run,) = by_level(client, "pipeline")
    assert run.info.status == "KILLED"
    below = [child.info for child in client.runs.values() if child.data.tags.get("mlflow.parentRunId") == run.info.run_id]
    assert run.info.end_time == max(child.end_time for child in below)  # not the time at which it was found


def test_the_lock_of_a_run_has_no_entry_of_a_stage_that_is_at_work(client, folder):
    lock = "stages:\n  prepare:\n    cmd: a\n  train:\n    cmd: b\n    outs:\n    - path: c\n"
    (folder / "dvc.lock").write_text(lock)
    Tracker("train", KEYS).close()
    (pipeline,) = by_level(client, "pipeline")
    assert pipeline.files["/dvc.lock"] == "stages:\n  prepare:\n    cmd: a\n"
    assert (folder / "dvc.lock").read_text() == lock


@pytest.mark.parametrize(("error", "status"), [(None, "FINISHED"), (RuntimeError, "FAILED"), (SystemExit, "KILLED")])
def test_the_stages_of_gee_run_are_one_execution_that_ends_as_it_does_and_knows_its_address(
    client, folder, monkeypatch, error, status
):
    monkeypatch.setenv("GEE_TRACKING", "on")
    with contextlib.suppress(RuntimeError, SystemExit), tracked_execution(load_params()) as addresses:
        for name in ("evolve", "train"):
            Tracker(name, KEYS).close()
        (folder / "dvc.lock").write_text("what DVC wrote after the last stage")
        if error:
            raise error
    (pipeline,) = by_level(client, "pipeline")
    assert pipeline.info.status == status and pipeline.data.tags["stage.train"] == "ran"
    assert pipeline.files["/dvc.lock"] == "what DVC wrote after the last stage"
    page = f"experiments/0/runs/{pipeline.info.run_id}?workflowType=machine_learning"
    assert addresses == [f"http://tracking.example:5000/#/{page}"]
    assert "GEE_EXECUTION" not in os.environ and outboxes() == []


def test_a_gee_run_in_which_no_stage_ran_is_no_row(client, folder, stage, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pipeline_run, "execution_key", lambda: GONE)
        stage()
    client.calls.clear()
    monkeypatch.setenv("GEE_TRACKING", "on")
    with tracked_execution(load_params()) as addresses:
        pass
    assert (addresses, client.calls) == ([], [])


@pytest.mark.parametrize(
    ("uri", "server"),
    [
        ("https://user:secret@host.example/mlflow/", "https://host.example/mlflow"),
        ("sqlite:////srv/gee/mlflow.db", "http://127.0.0.1:5000"),
    ],
)
def test_an_address_holds_no_secret_and_that_of_a_file_is_where_mlflow_server_shows_it(uri, server):
    assert run_address(uri, "3", "abc") == f"{server}/#/experiments/3/runs/abc?workflowType=machine_learning"


def test_an_experiment_that_exists_is_described_once_and_keeps_what_people_write(client, stage):
    known = client.do_create_experiment("gee", None)
    for tag, value in {"mlflow.note.content": "ours", "mlflow.sharedViewState.results": "{}"}.items():
        client.do_set_experiment_tag(known, tag, value)  # the view is that of an earlier version
    stage()
    tags = client.experiments["gee"].tags
    assert tags == EXPERIMENT_TAGS | {"mlflow.note.content": "ours"}
    client.calls.clear()
    stage()
    assert "set_experiment_tag" not in client.calls


def test_a_run_tells_its_user_its_command_and_whether_other_files_than_its_own_differ_from_the_commit(tmp_path, monkeypatch):
    git = {"ls-files": "dvc.yaml", "rev-parse": "0123456789", "status": " M train.py"}
    monkeypatch.setattr("pipelines.project.git.git", lambda folder, *words: git[words[0]][: 4 if "--short" in words else None])
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    monkeypatch.setenv("DVC_EXP_NAME", "wide-net")
    tags = origin_tags(tmp_path)
    assert tags.pop("mlflow.source.name")
    assert tags == {
        "mlflow.user": "ada",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": "0123456789",
        "gee.commit": "0123-dirty",
        "dvc.experiment": "wide-net",
    }


def test_a_full_disk_costs_one_warning_and_what_does_not_fit(client, folder, caplog, monkeypatch):
    tracker = Tracker("train", KEYS)
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "append", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
        tracker.metrics({"loss": 1.0})
        tracker.metrics({"loss": 1.0})
    tracker.metrics({"accuracy": 1.0})
    tracker.close()
    assert len(caplog.records) == 1 and "No space left on device" in caplog.text
    (run,) = by_level(client, "stage")
    assert ({name for name, *_ in run.points}, run.info.status) == ({"accuracy"}, "FINISHED")


def test_a_disk_that_stays_full_stops_no_stage(folder, caplog, monkeypatch):
    (folder / ".scratch").write_text("no folder")
    monkeypatch.setattr(drains, "start", lambda root: None)
    tracker = Tracker("train", KEYS)
    tracker.metrics({"loss": 1.0})
    tracker.close()
    assert len(caplog.records) == 1


def test_a_file_that_is_missing_is_told_and_one_that_changes_is_uploaded_as_it_was(client, folder, caplog):
    tracker = Tracker("train", KEYS)
    tracker.artifact(folder / "missing.csv")
    tracker.artifact(folder / "plot.svg", "plots")
    (folder / "plot.svg").write_text("later")
    tracker.close()
    (run,) = by_level(client, "stage")
    assert run.files == {"plots/plot.svg": "<svg/>"}
    assert "missing.csv" in caplog.text


def test_a_machine_without_git_tracks_all_but_the_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not [tag for tag in origin_tags(tmp_path) if "commit" in tag]


def test_tracking_can_be_turned_off(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEE_TRACKING", "off")
    tracker = open_tracker("train", load_params(ROOT / "params.yaml"))
    tracker.candidate({}, {}, "a", "ok", {}, (1.0, 2.0))
    tracker.winner(["a"], {"a": {"rank": 1}})
    tracker.continues(tmp_path)
    tracker.artifact(ROOT / "params.yaml")
    tracker.close()
    assert tracker.address is None and list(tmp_path.iterdir()) == []


def test_the_load_of_a_stage_is_a_numbered_curve_of_its_run_that_ends_with_it(client, folder, monkeypatch):
    monkeypatch.setattr(tracker_module, "LOAD_INTERVAL", 0.01)
    tracker = Tracker("train", KEYS)
    tracker.watch()
    entries = folder / ".scratch/tracking" / tracker._outbox.name / "entries.jsonl"
    wait_until(lambda: entries.read_text().count("cpu_utilization") >= 3)
    tracker.close()
    (run,) = by_level(client, "stage")
    for name, most in {"cpu_utilization_percentage": 100, "system_memory_usage_percentage": 100}.items():
        curve = sorted((step, value) for metric, step, _, value in run.points if metric == f"system/{name}")
        assert [step for step, _ in curve] == list(range(len(curve))) and len(curve) >= 3
        assert all(0 <= value <= most for _, value in curve)
    used = [value for name, _, _, value in run.points if name == "system/system_memory_usage_megabytes"]
    assert all(1 < value < psutil.virtual_memory().total / 1e6 for value in used)

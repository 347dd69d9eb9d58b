"""The law: killed anywhere, published again, MLflow equals that of an undisturbed run. And who publishes, waits and is told."""

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace as Values

import pytest

from gee_core.errors import InputError
from pipelines.tracking import publish
from pipelines.tracking.folder import Run, Told, tracking_root
from pipelines.tracking.publish import Publisher, alone
from pipelines.tracking.tracker import Tracker
from tests.pipelines.tracking.conftest import GONE, KEYS, PIPELINE, by_level, candidate, folders, publish_all


def ends(client) -> dict:
    return {run.info.run_name: run.info.status for run in client.runs.values()}


def test_a_run_that_went_well_leaves_nothing_behind(client, stage):
    stage()
    publish_all()
    statuses = {PIPELINE: "FINISHED", f"evolve · {PIPELINE}": "FINISHED", "cand0": "FINISHED", "cand1": "FINISHED"}
    assert ends(client) == statuses | {"cand2": "FAILED"}
    ranked = [{p[0]: p[3] for p in run.points if p[0] in ("rank", "final_fitness")} for run in by_level(client, "candidate")]
    assert ranked == [{"rank": 1, "final_fitness": 0.4}, {}, {}]
    assert folders() == [] and sorted(path.name for path in tracking_root().iterdir()) == ["last_execution", "said.json"]


@pytest.mark.parametrize("fault", ["lose", "drop", pytest.param("late", marks=pytest.mark.slow)])
def test_whichever_call_fails_the_next_publisher_misses_and_doubles_nothing(client, left, expected, fault, tmp_path):
    folder = left()
    shutil.copytree(folder, tmp_path / "copy")
    publish_all()
    assert client.state() == expected
    for number in range(len(client.calls)):
        client.runs.clear(), client.experiments.clear(), client.calls.clear()
        shutil.copytree(tmp_path / "copy", folder)
        setattr(client, fault, {number})
        Publisher(tracking_root()).update()
        if fault == "drop" and folder.is_dir():  # as if the power had failed: no deletion of a file was on disk yet
            shutil.copytree(tmp_path / "copy", folder, dirs_exist_ok=True)
        publish_all()
        assert client.state() == expected, f"call {number} ({client.calls[number]})"
        assert folders() == []


@pytest.mark.parametrize("end", ["deleted", "away"])
def test_a_folder_is_published_while_its_stage_works_whatever_became_of_the_last_pass(client, folder, end):
    tracker, publisher = Tracker("train", KEYS, name=PIPELINE), Publisher(tracking_root())
    client.is_down = end == "away"
    publisher.update()
    client.is_down = False
    for step in range(3):
        tracker.metrics({"loss": 1.0, "train_loss": 2.0}, step)
        tracker.child(f"c{step}", candidate(f"c{step}"))
        publisher.update()
        points = {point[:2] for run in client.runs.values() for point in run.points}
        assert {("loss", step), ("curves/train_loss", step)} < points and f"c{step}" in ends(client)
    tracker.close()
    assert publisher.update() == {}
    assert ends(client).items() >= {PIPELINE: "FINISHED", f"train · {PIPELINE}": "FINISHED"}.items()


def test_a_stage_that_was_killed_is_ended_as_killed_at_the_time_of_its_last_sign(client, left):
    folder = left()
    told = Told.model_validate_json((folder / "run.json").read_bytes())
    told.own.status = None
    (folder / "run.json").write_text(told.model_dump_json())
    with (folder / "log.jsonl").open("a") as log:
        log.write('\n{"key": "half')
    for path in folder.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    publish_all()
    ended = {"cand0": "FINISHED", "cand1": "FINISHED", "cand2": "FAILED"}
    assert ends(client) == ended | {PIPELINE: "KILLED", f"evolve · {PIPELINE}": "KILLED"}
    (run,) = by_level(client, "stage")
    assert run.info.end_time == 1_700_000_000_000 and folders() == []


def test_the_stages_of_one_execution_are_written_in_their_order(client, folder, monkeypatch):
    monkeypatch.setattr(publish, "wait", lambda *_: (None, []))  # MLflow was away
    (folder / "dvc.lock").write_text("old")
    for name, status in (("evolve", "FINISHED"), ("train", "FAILED"), ("report", "FINISHED")):
        Tracker(name, KEYS).close(status)
        (folder / "dvc.lock").write_text(f"after {name}")
    publish_all()
    (pipeline,) = by_level(client, "pipeline")
    stages = {tag: value for tag, value in pipeline.data.tags.items() if tag.startswith("stage.")}
    assert list(stages.items()) == [("stage.evolve", "ran"), ("stage.train", "failed"), ("stage.report", "ran")]
    assert (pipeline.info.status, pipeline.files["/dvc.lock"]) == ("FAILED", "after train")
    assert pipeline.info.end_time >= pipeline.info.start_time


def test_two_publishers_at_once_are_one_and_the_second_is_told_so(client, left, monkeypatch):
    left()
    monkeypatch.setattr(publish.os, "nice", lambda _: None)
    monkeypatch.setattr(publish, "PATIENCE", 0.0)
    monkeypatch.setattr("sys.argv", ["publish", "elsewhere/1/1"])
    with alone(tracking_root(), 0):
        publish.main()
        with pytest.raises(InputError, match="another process is writing to MLflow"), alone(tracking_root(), 0):
            pass
    assert client.calls == [] and len(folders()) == 1


def change(folder: Path, **changes: object) -> None:
    values = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(values | changes))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"process": "elsewhere/1/1"}, "its process is on elsewhere: replay it there"),
        ({"store": "http://other.example"}, "it is for http://other.example: set MLFLOW_TRACKING_URI to that"),
    ],
)
def test_a_folder_of_another_machine_or_store_is_left_with_the_reason(client, left, changes, why):
    folder = left()
    own = json.loads((folder / "run.json").read_text())["own"] | {"status": None}
    change(folder, own=own, **changes)
    (hindrance,) = Publisher(tracking_root()).update().values()
    assert hindrance.startswith(why) and client.calls == [] and folder.is_dir()


def test_a_damaged_file_costs_what_is_in_it_alone(client, left, expected, caplog):
    folder = left()
    log = (folder / "log.jsonl").read_text()
    (folder / "log.jsonl").write_text(log.replace('"name": "cand2"', '"name": cand2'))
    publish_all()
    assert client.state() == [run for run in expected if run[0] != "cand2"]
    assert f"MLflow refuses a part of {folder.name}" in caplog.text and folders() == []


def test_what_mlflow_refuses_is_one_warning_and_left_out(client, folder, caplog):
    tracker, publisher = Tracker("train", KEYS), Publisher(tracking_root())
    publisher.update()
    client.log_batch(by_level(client, "stage")[0].info.run_id, [], [Values(key="lr", value="1")], [])
    tracker.params({"lr": 2})
    tracker.metrics({"loss": 1.0})
    tracker.close()
    publisher.update()
    (run,) = by_level(client, "stage")
    assert run.info.status == "FINISHED" and {point[0] for point in run.points} == {"loss"} and folders() == []


def test_a_deleted_experiment_is_named_with_its_remedy_stops_no_other_folder_and_is_written_once_it_is_restored(
    client, expected, left, main, caplog
):
    change(left(), experiment="deleted")
    client.do_create_experiment("deleted", None)
    client.experiments["deleted"].lifecycle_stage = "deleted"
    left()
    said = "the experiment deleted is deleted in MLflow: restore it with `mlflow experiments restore -x 0`, or set MLFLOW_EXP"
    code, out, _ = main("track", "replay")
    assert code == 1 and f"evolve · {PIPELINE}   {said}" in out and len(by_level(client, "stage")) == 1
    assert "\n1 runs written to http://tracking.example:5000; 1 are left, for the reasons above\n" in out
    assert said in main("track", "status")[1] and said in caplog.text
    client.experiments["deleted"].lifecycle_stage = "active"
    client.runs.clear()
    publish_all()
    assert client.state() == expected


def test_the_commands_say_what_waits_what_was_written_and_that_a_server_is_away(client, left, main, expected):
    left()
    code, out, _ = main("track", "status")
    assert code == 0 and "evolve" in out and "`gee track replay` writes it" in out
    assert json.loads(main("track", "status", "--json")[1])[0]["has_ended"]
    client.is_down = True
    code, out, _ = main("track", "replay")
    assert code == 1 and "   MLflow does not answer: ConnectionError: no route" in out
    client.is_down = False
    code, out, _ = main("track", "replay")
    assert code == 0 and f"1 runs written to http://tracking.example:5000\n" in out
    assert main("track", "status")[1] == "MLflow has everything\n"
    assert client.state() == expected


@pytest.fixture
def ended(folder, monkeypatch):
    """Ends an execution with a stage of five metrics, of which nobody publishes any; how long that took, and its tracker."""

    def end(status: str = "FINISHED", why: str = "") -> tuple[float, Tracker]:
        monkeypatch.setattr(publish, "start", lambda *_: None)
        stage = Tracker("train", KEYS, files=[])
        for step in range(5):
            stage.metrics({"loss": 1.0}, step)
        publish.Publisher(tracking_root())._say(publish.Said(hindrances={stage.folder.name: why} if why else {}))
        tracker, begin = Tracker(None, KEYS, files=[]), time.monotonic()
        tracker.close(status)
        return time.monotonic() - begin, tracker

    return end


def test_a_server_that_does_not_answer_is_not_waited_for_and_one_warning_says_what_is_left_of_all(ended, caplog, monkeypatch):
    monkeypatch.setattr(publish, "RETRY", 0.01)
    _, tracker = ended(why="MLflow does not answer: ConnectionError: no route")
    (record,) = caplog.records
    root = tracking_root()
    said = f"2 runs are not written yet (MLflow does not answer: ConnectionError: no route); they wait in {root}: the next run"
    assert said in record.message and tracker.address is None


@pytest.mark.parametrize(("status", "limit"), [("FINISHED", "LIMIT"), ("KILLED", "LIMIT_OF_KILLED")])
def test_a_server_that_answers_is_waited_for_until_the_limit(ended, monkeypatch, status, limit, caplog):
    for name in ("LIMIT", "LIMIT_OF_KILLED"):
        monkeypatch.setattr(publish, name, 0.3 if name == limit else 0.0)
    waited, _ = ended(status)
    assert waited >= 0.3 and "it is slow" in caplog.text


def test_a_full_disk_costs_one_warning_and_what_does_not_fit(client, folder, caplog, monkeypatch):
    tracker = Tracker("train", KEYS)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(OSError("No space left on device")))
        tracker.metrics({"loss": 1.0})
        tracker.metrics({"loss": 1.0})
    tracker.metrics({"accuracy": 1.0})
    tracker.close()
    assert len(caplog.records) == 1 and "No space left on device" in caplog.text
    publish_all()
    (run,) = by_level(client, "stage")
    assert ({name for name, *_ in run.points}, run.info.status) == ({"accuracy"}, "FINISHED")


def test_a_disk_that_stays_full_stops_no_stage(folder, caplog, monkeypatch):
    (folder / ".scratch").write_text("no folder")
    monkeypatch.setattr(publish, "start", lambda *_: None)
    tracker = Tracker("train", KEYS)
    tracker.metrics({"loss": 1.0})
    tracker.close()
    assert len(caplog.records) == 1


def test_a_publisher_ends_with_the_process_that_it_works_for_but_not_before_its_stages(client, folder, monkeypatch):
    """It is niced, waits a second between two passes, and ends runs whose process is gone."""
    tracker, passes = Tracker("train", KEYS), []

    def sleep(seconds: float) -> None:
        passes.append(ends(client))
        if len(passes) == 3:
            tracker.close()

    monkeypatch.setattr(publish.time, "sleep", sleep)
    monkeypatch.setattr(publish.os, "nice", passes.append)
    monkeypatch.setattr("sys.argv", ["publish", GONE])
    publish.main()
    assert passes[0] == 10 and passes[1] == {"": "RUNNING", "train · ": "RUNNING"}
    assert len(passes) == 3 and ends(client) == {"": "FINISHED", "train · ": "FINISHED"}

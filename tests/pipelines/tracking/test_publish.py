"""The law: killed anywhere, published again, MLflow equals that of an undisturbed run. And who publishes, waits and is told."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from pipelines.tracking.folder import LOG, Told, ended, tracking_root

from gee_core.errors import InputError
from pipelines.tracking import publish
from pipelines.tracking.publish import SAID, Publisher, Said, alone
from pipelines.tracking.tracker import Tracker
from tests.pipelines.tracking.conftest import GONE, KEYS, META, PIPELINE, by_level, candidate, folders, publish_all


def ends(client) -> dict:
    return {run.info.run_name: run.info.status for run in client.runs.values()}


@pytest.fixture
def expected(client, stage):
    """What the store holds after the stage, undisturbed; the store is empty again."""
    stage()
    state = client.state()
    client.runs.clear(), client.experiments.clear(), client.calls.clear()
    return state


def test_what_a_stage_tells_is_in_its_run_that_of_its_pipeline_and_those_of_candidates(client, stage):
    stage()
    statuses = {PIPELINE: "FINISHED", f"evolve · {PIPELINE}": "FINISHED", "cand0": "FINISHED", "cand1": "FINISHED"}
    assert ends(client) == statuses | {"cand2": "FAILED"}
    (pipeline,), (evolve,), best_first = (by_level(client, level) for level in ("pipeline", "stage", "candidate"))
    energy = {("energy_uj", step, 2.0) for step in (0, 1)}
    assert {(name, step, value) for name, step, _, value in evolve.points} == energy | {
        *(("best", step, 1.0 - step) for step in (0, 1)),
        *(("generation_least_fitness", step, 0.5) for step in (0, 1)),
    }
    assert {(name, step, value) for name, step, _, value in pipeline.points} == {
        *(("curves/generation_least_fitness", step, 0.5) for step in (0, 1)),
        ("test_accuracy", 0, 0.9),
        ("final_fitness", 0, 9.0),
    }
    assert [run.data.metrics for run in best_first] == [
        {"fitness": 0.5, "final_fitness": 0.4, "rank": 1},
        {"fitness": 0.25},
        {},
    ]
    assert [run.data.tags.get("gee.winner") for run in best_first] == ["true", None, None]
    assert best_first[0].data.params["width"] == "0.2"  # a gene's own value in place of the setting
    assert {point[2] for point in best_first[1].points} == {1_700_000_009_500}
    assert (evolve.data.params["variant"], evolve.data.params["more"], len(pipeline.data.params)) == ("ste", "1", 116)
    assert (evolve.files.keys(), pipeline.files.keys()) == ({"plots/plot.svg"}, {"/plot.svg", "/params.yaml"})
    assert (pipeline.data.tags["gee.result"], pipeline.data.tags["stage.evolve"]) == ("abc", "ran")
    assert pipeline.inputs == evolve.inputs == {("digits", META.digest), ("digits", f"{META.digest}-test")}
    assert folders() == [] and sorted(path.name for path in tracking_root().iterdir()) == ["last_execution", "said.json"]


@pytest.mark.parametrize(
    ("fault", "kind"), [("lose", ""), ("drop", ""), ("late", "create_run"), pytest.param("late", "", marks=pytest.mark.slow)]
)
def test_whichever_call_fails_the_next_publisher_misses_and_doubles_nothing(client, left, expected, fault, kind, tmp_path):
    folder = left()
    shutil.copytree(folder, tmp_path / "copy")
    publish_all()
    assert client.state() == expected
    for number in [number for number, name in enumerate(client.calls) if name.startswith(kind)]:
        client.runs.clear(), client.experiments.clear(), client.calls.clear()
        shutil.copytree(tmp_path / "copy", folder)
        setattr(client, fault, {number})
        publish_all()
        assert client.state() == expected, f"call {number} ({client.calls[number]})"
        assert folders() == []


@pytest.mark.parametrize("end", ["deleted", "away", "its answers lost"])
def test_a_folder_is_published_while_its_stage_works_whatever_became_of_the_last_pass(client, folder, end):
    tracker, publisher = Tracker("train", KEYS, name=PIPELINE), Publisher(tracking_root())
    client.is_down = end == "away"
    publisher.update()
    client.is_down = False
    for step in range(3):
        tracker.child(f"c{step}", candidate(f"c{step}"))
        tracker.metrics({"loss": 1.0, "train_loss": 2.0}, step)
        if end == "its answers lost":
            client.lose = {len(client.calls)}
            publisher.update()
        with (tracker.folder / LOG).open("ab") as log:
            log.write(half := b'\n{"key": "half')
        publisher.update()
        os.truncate(tracker.folder / LOG, (tracker.folder / LOG).stat().st_size - len(half))
        points = {point[:2] for run in client.runs.values() for point in run.points}
        assert {("loss", step), ("curves/train_loss", step)} < points and f"c{step}" in ends(client)
    client.calls.clear(), client.lose.clear()
    publisher.update()
    assert client.calls == [] and len(client.runs) == 2 + 3
    tracker.close()
    assert ends(client).items() >= {PIPELINE: "FINISHED", f"train · {PIPELINE}": "FINISHED"}.items() and folders() == []


def test_a_stage_that_was_killed_is_ended_as_killed_at_the_time_of_its_last_sign(client, left):
    folder = left()
    told = Told.model_validate_json((folder / "run.json").read_bytes())
    told.own.status = None
    (folder / "run.json").write_text(told.model_dump_json())
    with (folder / LOG).open("a") as log:
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
        Tracker(name, KEYS).close(status, "no space" if status == "FAILED" else "")
        (folder / "dvc.lock").write_text(f"after {name}")
    publish_all()
    (pipeline,) = by_level(client, "pipeline")
    stages = {tag: value for tag, value in pipeline.data.tags.items() if tag.startswith("stage.")}
    assert list(stages.items()) == [("stage.evolve", "ran"), ("stage.train", "failed"), ("stage.report", "ran")]
    assert (pipeline.info.status, pipeline.files["/dvc.lock"]) == ("FAILED", "after train")
    assert [run.data.tags.get("gee.error") for run in client.runs.values()] == ["no space", None, "no space", None]
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


def test_what_mlflow_refuses_is_a_warning_and_left_out_alone(client, left, expected, caplog):
    folder = left()
    log = (folder / LOG).read_text()
    (folder / LOG).write_text(log.replace('"name": "cand2"', '"name": cand2'))
    publish_all()
    assert client.state() == [run for run in expected if run[0] != "cand2"]
    assert f"MLflow refuses a part of {folder.name}" in caplog.text and folders() == []


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
    another, client.is_down = left(), True
    client.calls.clear()
    assert main("track", "replay")[0] == 1 and len(client.calls) == 1  # the first folder is tried for both
    client.is_down = False
    shutil.rmtree(another)
    client.experiments["deleted"].lifecycle_stage = "active"
    client.runs.clear()
    publish_all()
    assert client.state() == expected


def test_the_commands_say_what_waits_what_was_written_and_that_a_server_is_away(client, left, main, expected):
    name = left().name
    line = f"evolve · {PIPELINE}   {name}   `gee track replay` writes it\n"
    assert main("track", "status") == (0, line, "")
    row = {"run": f"evolve · {PIPELINE}", "outbox": name, "has_ended": True, "hindrance": ""}
    assert json.loads(main("track", "status", "--json")[1]) == [row]
    client.is_down = True
    code, out, _ = main("track", "replay")
    assert code == 1 and "   MLflow does not answer: ConnectionError: no route" in out
    client.is_down = False
    assert main("track", "replay")[:2] == (
        0,
        f"evolve · {PIPELINE}   written\n1 runs written to http://tracking.example:5000\n",
    )
    assert main("track", "status")[1] == "MLflow has everything\n"
    assert client.state() == expected


@pytest.mark.parametrize(
    ("why", "status", "limit"),
    [("no route", "FINISHED", "RETRY"), ("", "FINISHED", "LIMIT"), ("", "KILLED", "LIMIT_OF_KILLED")],
)
def test_the_end_of_a_run_waits_a_while_and_one_warning_says_what_is_left(folder, caplog, monkeypatch, why, status, limit):
    """A short while for a server that does not answer, a long one for one that does, but not after Ctrl-C."""
    monkeypatch.setattr(publish, "start", lambda *_: None)
    for name in ("RETRY", "LIMIT", "LIMIT_OF_KILLED"):
        monkeypatch.setattr(publish, name, 0.3 if name == limit else 1e-9 if why == "" else 60.0)
    stage, tracker = Tracker("train", KEYS, files=[]), Tracker(None, KEYS, files=[])
    (tracking_root() / SAID).write_text(Said(hindrances={stage.folder.name: why} if why else {}).model_dump_json())
    begin = time.monotonic()
    tracker.close(status)
    assert 0.3 <= time.monotonic() - begin < 30 and tracker.address is None
    assert ended(tracking_root()) == [tracker.folder]  # what `gee status` counts
    (record,) = caplog.records
    said = f"2 runs are not written yet ({why or 'it is slow'}); they wait in {tracking_root()}: the next run writes them"
    assert said in record.message


def test_a_full_disk_costs_one_warning_and_what_does_not_fit(client, folder, caplog, monkeypatch):
    tracker = Tracker("train", KEYS)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(OSError("No space left on device")))
        tracker.metrics({"loss": 1.0})
        tracker.metrics({"loss": 1.0})
    with (tracker.folder / LOG).open("a") as log:
        log.write('\n{"key": "cut off')
    tracker.metrics({"accuracy": 1.0})
    assert len(caplog.records) == 1 and "No space left on device" in caplog.text
    tracker.close()
    (run,) = by_level(client, "stage")
    assert ({name for name, *_ in run.points}, run.info.status) == ({"accuracy"}, "FINISHED")


def test_a_disk_that_stays_full_stops_no_stage(folder, caplog, monkeypatch):
    (folder / ".scratch").write_text("no folder")
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

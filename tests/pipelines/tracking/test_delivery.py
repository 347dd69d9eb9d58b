import logging
import time

import pytest

from pipelines.tracking import delivery
from pipelines.tracking.tracker import MlflowTracker
from tests.pipelines.tracking.conftest import ENTRIES, PIPELINE, outboxes, wait_open
from tests.wait_until import wait_until


def test_a_run_that_went_well_leaves_nothing_behind(client, stage, folder):
    stage()
    names = ["cand0", "cand1", "cand2", PIPELINE, f"evolve · {PIPELINE}"]
    assert [run[:2] for run in client.state()] == [[n, "FAILED" if n == "cand2" else "FINISHED"] for n in names]
    assert outboxes() == []


def test_no_call_waits_for_a_server_that_hangs_and_the_end_says_what_waits_and_where(client, stage, folder, caplog, impatient):
    client.is_free.clear()
    with caplog.at_level(logging.WARNING):
        stage()  # returns, though no call has been answered
    client.is_free.set()
    (record,) = caplog.records
    assert f"{ENTRIES} entries are not written yet" in record.message
    assert "`gee track replay` writes them" in record.message
    assert str(outboxes()[0]) in record.message


def test_a_server_that_is_down_costs_one_warning_with_its_reason(client, stage, caplog, impatient):
    client.is_down = True
    with caplog.at_level(logging.WARNING):
        stage()
    (record,) = caplog.records
    assert f"{ENTRIES} entries" in record.message and "no route" in record.message


def test_an_experiment_that_was_deleted_costs_one_warning_with_its_remedy(client, stage, caplog, impatient):
    client.do_create_experiment("gee", None)
    client.experiments["gee"].lifecycle_stage = "deleted"
    with caplog.at_level(logging.WARNING):
        stage()
    (record,) = caplog.records
    remedy = "restore it with `mlflow experiments restore -x 0`, or set MLFLOW_EXPERIMENT_NAME to another for later runs"
    assert f"not written yet (the experiment gee is deleted in MLflow: {remedy}); they wait in" in record.message


def test_a_server_that_comes_back_is_used_again_in_the_same_run(client, folder):
    client.is_down = True
    tracker = MlflowTracker("evaluate", dict.fromkeys(["dataset", "network", "n_genes"], "x"))
    tracker.metrics({"accuracy": 0.5})
    wait_until(lambda: tracker._delivery.trouble)
    assert client.runs == {}
    client.is_down = False
    tracker._delivery.wait(600)
    (points,) = [run.points for run in client.runs.values() if run.data.tags.get("gee.stage") == "evaluate"]
    assert [(name, value) for name, _, _, value in points] == [("accuracy", 0.5)]
    tracker.close()
    assert outboxes() == []


@pytest.mark.parametrize("fault", ["lose", "drop", "late"])
def test_whichever_call_fails_on_the_way_there_or_back_the_store_holds_the_same(client, stage, expected, fault):
    stage()
    for number in range(len(client.calls)):
        client.runs.clear(), client.experiments.clear(), client.calls.clear()
        setattr(client, fault, {number})
        stage()
        assert client.state() == expected, f"call {number} ({client.calls[number]})"


def test_a_slow_server_is_waited_for_as_briefly_as_one_that_hangs(client, folder, monkeypatch, impatient):
    monkeypatch.setattr(delivery, "SLOW", -1.0)  # every answer is
    tracker = MlflowTracker("train", dict.fromkeys(["dataset", "network", "n_genes"], "x"))
    wait_open(tracker)
    write = tracker._writer.write
    monkeypatch.setattr(tracker._writer, "write", lambda entry: (time.sleep(0.02), write(entry)))
    for step in range(100):  # two seconds
        tracker.metrics({"loss": 1.0}, step)
    tracker.close()
    assert len(outboxes()) == 1


def test_after_an_outage_the_end_does_not_wait_for_all_that_piled_up(client, folder, monkeypatch, impatient):
    client.is_down = True
    tracker = MlflowTracker("train", dict.fromkeys(["dataset", "network", "n_genes"], "x"))
    for step in range(100):
        tracker.metrics({"loss": 1.0}, step)
    wait_until(lambda: tracker._delivery.trouble)
    write = tracker._writer.write
    monkeypatch.setattr(tracker._writer, "write", lambda entry: (time.sleep(0.02), write(entry)))
    client.is_down = False
    wait_open(tracker)
    tracker.close()
    assert len(outboxes()) == 1


def test_an_entry_that_is_refused_stays_in_the_outbox_with_the_reason(client, folder, caplog):
    tracker = MlflowTracker("train", dict.fromkeys(["dataset", "network", "n_genes"], "x"))
    tracker.params({"lr": 1})
    tracker.params({"lr": 2})
    tracker.metrics({"loss": 1.0})
    tracker.close()
    assert "a parameter cannot be changed" in caplog.text
    assert next(run for run in client.runs.values() if run.data.tags.get("gee.stage") == "train").info.status == "FINISHED"
    assert tracker._outbox.refused == {2: "ValueError: a parameter cannot be changed"}
    assert len(outboxes()) == 1


def test_a_disk_without_room_costs_a_warning_and_no_entry_of_a_server_that_answers(client, stage, folder, expected, caplog):
    (folder / ".scratch").rename(folder / "away")
    (folder / ".scratch").write_text("no folder")
    with caplog.at_level(logging.WARNING):
        stage()
    assert client.state() == expected
    (record,) = caplog.records
    assert (".scratch" in record.message and "lost" in record.message) or "uploaded in its later state" in record.message

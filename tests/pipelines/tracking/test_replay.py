import shutil
import socket
import time
from pathlib import Path
from types import SimpleNamespace as Values

import pytest

from gee_core.errors import InputError
from pipelines.runtime import journal
from pipelines.tracking import delivery
from pipelines.tracking.mlflow_writer import MlflowWriter
from pipelines.tracking.outbox import Outbox, one_at_a_time, outbox_root
from pipelines.tracking.replay import count_ready, find_waiting, replay
from pipelines.tracking.tracker import MlflowTracker
from tests.pipelines.tracking.conftest import ENTRIES, GONE, KEYS, PIPELINE

OF_EACH_KIND = {"open": 1, "dataset": 1, "log": 4, "candidate": 3, "winner": 1, "artifact": 2, "note": 1, "close": 1}


def test_what_a_stage_could_not_write_is_written_later_and_replay_twice_is_replay_once(client, expected, left):
    folder = left()
    assert client.runs == {}
    (waiting,) = replay(outbox_root())
    assert client.state() == expected
    assert waiting.written == OF_EACH_KIND
    assert not folder.exists()
    client.calls.clear()
    assert replay(outbox_root()) == [] and client.calls == []
    assert client.state() == expected


def test_runs_written_late_have_the_times_at_which_they_were(client, left):
    folder = left()
    entries = Outbox(folder).entries()
    times = {entry["kind"]: entry["time"] for entry in entries}
    logged = {entry["time"] for entry in entries if entry["kind"] == "log"}
    replay(outbox_root())
    (run,) = [run for run in client.runs.values() if run.data.tags.get("gee.stage") == "evolve"]
    assert (run.info.start_time, run.info.end_time) == (times["open"], times["close"])
    assert {time for _, _, time, _ in run.points} <= logged


def test_a_stage_that_is_written_late_leaves_the_end_and_the_newer_files_of_its_execution(client, folder, monkeypatch):
    client.is_down = True
    (folder / "dvc.lock").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(delivery, "RETRY", 0.05)
        patch.setattr("pipelines.tracking.outbox.time", Values(time=lambda: 1.7e9, strftime=time.strftime))
        patch.setattr("pipelines.tracking.tracker.process_key", lambda process: GONE.format(host=socket.gethostname()))
        late = MlflowTracker("prepare", KEYS)
        late.close()
    late._delivery._thread.join(600)
    client.is_down = False
    (folder / "dvc.lock").write_text("new")
    MlflowTracker("evolve", KEYS).close()
    (pipeline,) = [run for run in client.runs.values() if run.info.run_name == PIPELINE]
    end = pipeline.info.end_time
    replay(outbox_root())
    assert (pipeline.info.end_time, pipeline.files["/dvc.lock"]) == (end, "new") and end >= pipeline.info.start_time
    assert {"stage.prepare", "stage.evolve"} < set(pipeline.data.tags)


@pytest.mark.parametrize("fault", ["lose", "drop"])
@pytest.mark.parametrize("notes", ["kept", "gone"])
def test_a_crash_at_whichever_call_makes_no_duplicate(client, expected, left, fault, notes, tmp_path):
    outbox = left()
    shutil.copytree(outbox, tmp_path / "copy")
    number = 0
    while True:
        client.runs.clear(), client.experiments.clear(), client.calls.clear()
        shutil.rmtree(outbox, ignore_errors=True)
        shutil.copytree(tmp_path / "copy", outbox)
        setattr(client, fault, {number})
        finished = write_until_it_crashes(client, outbox)
        setattr(client, fault, set())
        if notes == "gone":  # as if the power had failed: nothing of it was on disk yet
            (outbox / "written.jsonl").unlink(missing_ok=True)
        replay(outbox_root())
        assert client.state() == expected, f"crash at call {number}"
        if finished:
            break
        number += 1
    assert number > 20


def write_until_it_crashes(client, folder: Path) -> bool:
    outbox = Outbox(folder)
    entries = outbox.entries()
    writer = MlflowWriter(outbox, entries[0], "http://tracking.example:5000")
    try:
        for entry in entries:
            writer.write(entry)
            outbox.note_written(entry)
    except ConnectionError:
        return False
    return True


def test_a_stage_that_was_killed_is_ended_as_killed(client, left):
    folder = left()
    lines = (folder / "entries.jsonl").read_text().splitlines(keepends=True)
    (folder / "entries.jsonl").write_text("".join(lines[:4]))
    assert count_ready(find_waiting(outbox_root())) == 5
    replay(outbox_root())
    ends = {run.info.run_name: run.info.status for run in client.runs.values()}
    assert ends == {PIPELINE: "KILLED", f"evolve · {PIPELINE}": "KILLED", "cand0": "FINISHED"}
    assert not folder.exists()


def test_a_server_that_dies_in_the_middle_leaves_the_rest_for_the_next_replay(client, expected, left):
    left()
    client.drop = set(range(16, 30))
    (waiting,) = replay(outbox_root())
    assert waiting.is_away and "no route" in waiting.hindrance
    assert 0 < len(waiting.entries) < ENTRIES
    client.drop = set()
    replay(outbox_root())
    assert client.state() == expected


def test_the_outbox_of_a_living_process_is_left_alone(client, stage, impatient):
    client.is_down = True
    stage()._delivery._thread.join(600)  # it may still be at an entry, which would then arrive
    client.is_down = False
    client.calls.clear()
    (waiting,) = replay(outbox_root())
    assert (waiting.hindrance, len(waiting.entries), client.calls) == ("its process is running", ENTRIES, [])


def reopen(folder: Path, **changes) -> None:
    """Rewrite the first entry of an outbox."""
    first, *rest = journal.read(folder / "entries.jsonl")
    (folder / "entries.jsonl").unlink()
    for entry in [first | changes, *rest]:
        journal.append(folder / "entries.jsonl", entry)


def test_what_another_machine_left_is_written_when_the_user_says_that_nothing_runs_there(client, expected, left):
    folder = left()
    reopen(folder, process="elsewhere/1/1")
    (waiting,) = replay(outbox_root())
    assert waiting.hindrance.startswith("its process is on elsewhere") and client.calls == []
    replay(outbox_root(), everywhere=True)
    assert client.state() == expected


def test_what_is_meant_for_another_address_is_written_to_this_one_only_on_request(client, expected, left, monkeypatch, main):
    folder = left()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other.example:5000")
    (waiting,) = replay(outbox_root())
    assert waiting.hindrance == (
        "it is for http://tracking.example:5000: set MLFLOW_TRACKING_URI to that, "
        "or `gee track replay --anyway` writes it to http://other.example:5000"
    )
    assert client.calls == []
    code, out, _ = main("track", "replay", "--anyway")
    assert code == 0 and f"{ENTRIES} entries written to http://other.example:5000" in out
    assert client.state() == expected and not folder.exists()


def test_of_what_another_store_has_a_part_nothing_is_written_to_this_one(client, expected, left, monkeypatch):
    left()
    client.drop = set(range(16, 30))
    (waiting,) = replay(outbox_root())
    n, runs, client.drop = len(waiting.entries), client.runs, set()
    client.runs = {}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other.example:5000")
    (waiting,) = replay(outbox_root(), anyway=True)
    assert waiting.hindrance.startswith("refused: ") and len(waiting.entries) == n and client.runs == {}
    client.runs = runs  # the same store at a new address
    replay(outbox_root(), anyway=True)
    assert client.state() == expected


def test_an_outbox_whose_beginning_is_damaged_says_so_and_is_kept(client, left, caplog):
    folder = left()
    data = (folder / "entries.jsonl").read_bytes()
    (folder / "entries.jsonl").write_bytes(data[:10] + b"#" + data[11:])
    (waiting,) = replay(outbox_root())
    assert "damaged" in waiting.hindrance and client.calls == []
    assert folder.is_dir()


def test_a_damaged_line_costs_its_entry_alone(client, left, expected, caplog):
    folder = left()
    lines = (folder / "entries.jsonl").read_bytes().splitlines(keepends=True)
    (number,) = [i for i, line in enumerate(lines) if b'"cand1"' in line]
    lines[number] = lines[number].replace(b"cand1", b"dnac1")
    (folder / "entries.jsonl").write_bytes(b"".join(lines))
    replay(outbox_root())
    assert client.state() == [run for run in expected if run[0] != "cand1"]


def test_what_the_store_refuses_is_told_and_kept(client, left):
    folder = left()
    reopen(folder, keys=KEYS | {"variant": "another"})
    (waiting,) = replay(outbox_root())
    assert [entry["params"] for entry in waiting.entries] == [{"variant": "ste"}]
    assert waiting.hindrance.startswith("refused: ValueError: a parameter cannot be changed")
    assert str(folder) in waiting.hindrance and folder.is_dir()


def test_a_second_replay_at_the_same_time_is_refused(client, left):
    left()
    with one_at_a_time(outbox_root(), "replay"), pytest.raises(InputError, match="another `gee track replay` is running"):
        replay(outbox_root())


def test_stages_of_a_flow_join_its_run_in_whatever_order_they_are_written(client, stage, monkeypatch, impatient):
    gone = GONE.format(host=socket.gethostname())
    client.is_down = True
    monkeypatch.setattr("pipelines.tracking.tracker.process_key", lambda process: gone)
    monkeypatch.setenv("GEE_EXECUTION", gone)
    tracker = stage()
    monkeypatch.delenv("GEE_EXECUTION")
    monkeypatch.setattr("pipelines.tracking.pipeline_run.execution_key", lambda: gone)
    flow = MlflowTracker(None, KEYS)
    flow.close("FAILED")
    for late in (tracker, flow):  # it may still be at an entry, which would then arrive
        late._delivery._thread.join(600)
    client.is_down = False
    replay(outbox_root())
    levels = sorted((run.data.tags["gee.level"], run.info.status) for run in client.runs.values())
    ended = [("candidate", "FAILED"), ("candidate", "FINISHED"), ("candidate", "FINISHED")]
    assert levels == [*ended, ("pipeline", "FAILED"), ("stage", "FINISHED")]


def test_a_deleted_experiment_is_named_with_its_remedy_and_what_waits_is_written_once_it_is_restored(
    client, expected, left, main
):
    client.do_create_experiment("gee", None)
    client.experiments["gee"].lifecycle_stage = "deleted"
    left()
    said = "the experiment gee is deleted in MLflow: restore it with `mlflow experiments restore -x 0`, or set MLFLOW_EXP"
    code, out, _ = main("track", "replay")
    assert (code, client.runs) == (1, {}) and f"nothing; {ENTRIES} left: {said}" in out
    assert f"\n0 entries written to http://tracking.example:5000; {ENTRIES} are left, for the reasons above\n" in out
    client.experiments["gee"].lifecycle_stage = "active"
    replay(outbox_root())
    assert client.state() == expected


def test_the_commands_say_what_waits_what_was_written_and_that_a_server_is_away(client, left, main):
    left()
    code, out, _ = main("track", "status")
    assert code == 0 and "evolve" in out and f"{ENTRIES} entries" in out and "`gee track replay` writes them" in out
    client.is_down = True
    code, out, err = main("track", "replay")
    assert code == 2 and f"{ENTRIES} entries still wait" in err and "no route" in err and "0 entries written" in out
    client.is_down = False
    code, out, _ = main("track", "replay")
    assert code == 0 and f"{ENTRIES} entries written to http://tracking.example:5000" in out
    assert main("track", "status")[1] == "MLflow has everything\n"


def test_the_columns_of_what_waits_are_even_whatever_its_names(client, left, main):
    reopen(left(), level="pipeline", stage=None, name="digits vgg16 g=6 ste · an experiment with a long name")
    left()
    first, second = main("track", "status")[1].splitlines()
    for column in (" entries   ", "   `gee track replay`"):
        assert first.index(column) == second.index(column) > 0

"""The law: killed anywhere, published again, MLflow equals that of an undisturbed run. And who publishes, waits and is told."""

import json
import os
import shutil
from pathlib import Path

import pytest

from gee_core.errors import InputError
from pipelines.runtime.run_files import ROWS, RUN, SENT, read_record, read_sent, waiting_folders, write_record
from pipelines.runtime.run_folder import runs_root
from pipelines.tracking import publish
from pipelines.tracking.mlflow_client import find_experiment
from pipelines.tracking.publish import Publisher, alone
from pipelines.tracking.tracker import open_execution, open_stage, tracked_execution
from tests.pipelines.tracking.conftest import GONE, META, as_gone, candidate, names_of, publish_all, search


@pytest.fixture
def expected(store, a_stage, known=[]):  # noqa: B006 - it is the same for all tests
    """What the store holds after the stage, undisturbed."""
    if not known:
        a_stage()
        known += store.state()
        store.clear()
        shutil.rmtree(runs_root())
    return known


def test_what_a_stage_notes_is_in_its_run_its_pipelines_and_those_of_candidates(store, a_stage):
    a_stage()
    (pipeline,), (evolve,), candidates = (store.runs(level) for level in ("pipeline", "stage", "candidate"))
    assert names_of(candidates) == {"cand0": "FINISHED", "cand1": "FINISHED", "cand2": "FAILED"}
    assert (pipeline.info.status, evolve.info.status) == ("FINISHED", "FINISHED")
    assert evolve.info.run_name == f"evolve · {pipeline.info.run_name}"
    steps = (0, 1, 2)
    assert set(store.points(evolve)) == {("gain", 0, 2.0)} | {
        point for step in steps for point in (("best", step, 1.0 - step), ("curves/generation_least_fitness", step, 0.5))
    } | {("energy_uj", step, 2.0) for step in steps}
    assert set(store.points(pipeline)) == {("curves/generation_least_fitness", step, 0.5) for step in steps} | {
        ("test_accuracy", 0, 0.9)
    }
    by_name = {run.info.run_name: run for run in candidates}
    assert by_name["cand0"].data.metrics == {"fitness": 0.5, "gene.sigma_O": 0.1, "final_fitness": 0.4, "rank": 1}
    assert [name for name, run in by_name.items() if run.data.tags.get("gee.winner") == "true"] == ["cand0"]
    assert "fitness" not in by_name["cand2"].data.metrics and "test_loss" not in evolve.data.metrics  # not finite
    assert by_name["cand1"].data.params == {"width": "0.2", "sigma_O": "0.1"}
    assert (by_name["cand1"].info.start_time, by_name["cand1"].info.end_time) == (1_700_000_000_250, 1_700_000_009_500)
    assert store.files(by_name["cand0"]) == ["genotype.json"]
    assert (evolve.data.params["variant"], evolve.data.params["more"], evolve.data.params["p-7"]) == ("ste", "1", "7")
    assert (store.files(evolve), store.files(pipeline)) == (["plots/plot.svg"], ["params.yaml", "plot.svg"])
    assert (pipeline.data.tags["gee.result"], pipeline.data.tags["stage.evolve"]) == ("abc", "ran")
    note = pipeline.data.tags["mlflow.note.content"]
    assert note.endswith("\n\nthe table") and f"viewStateShareKey=candidates-{evolve.info.run_id}&" in note
    inputs = [{(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs} for run in (pipeline, evolve)]
    assert inputs == [{("digits", META.digest), ("digits", f"{META.digest}-test")}] * 2
    assert {run.data.tags["mlflow.parentRunId"] for run in candidates} == {evolve.info.run_id}
    assert waiting_folders(runs_root()) == {} and not list(runs_root().rglob("plot.svg"))


@pytest.mark.parametrize("every", [19, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fault", ["lost", "dropped"])
def test_whichever_call_fails_the_next_publisher_misses_and_doubles_nothing(
    store, a_stage, expected, fault, every, tmp_path, monkeypatch
):
    as_gone(monkeypatch, a_stage)
    shutil.copytree(runs_root(), tmp_path / "copy")
    publish_all()
    assert store.state() == expected
    for number in range(0, len(store.calls), every):
        store.clear()
        shutil.rmtree(runs_root())
        shutil.copytree(tmp_path / "copy", runs_root())
        setattr(store, fault, number)
        publish_all()
        assert store.state() == expected, f"call {number} ({store.calls[number]})"
        assert waiting_folders(runs_root()) == {}


def test_a_folder_that_is_published_twice_is_the_same(store, a_stage, expected):
    """As after a power failure by which the note of the publisher was lost."""
    stage = a_stage()
    for path in runs_root().glob(f"*/{SENT}"):
        path.unlink()
    stage.run.artifact(Path("plot.svg"), "plots")  # the publisher deletes what it has uploaded
    publish_all()
    assert store.state() == expected


def test_a_folder_is_published_while_its_stage_works(store, make_params):
    stage, publisher = open_stage("train", make_params()), Publisher(runs_root())
    store.is_down = True
    publisher.update()
    assert "no route" in read_sent(stage.execution.run.path).hindrance
    store.is_down = False
    with stage.run.at_work_in(runs_root() / "train-key"):
        for step in range(2):
            stage.run.point(step, {"loss": 1.0, "train_loss": 2.0})
            with (stage.run.path / ROWS).open("ab") as rows:
                rows.write(half := b'{"step": 9, "ti')
            publisher.update()
            os.truncate(stage.run.path / ROWS, (stage.run.path / ROWS).stat().st_size - len(half))
            (run,), (pipeline,) = store.runs("stage"), store.runs("pipeline")
            assert {("loss", step, 1.0), ("curves/train_loss", step, 2.0)} <= set(store.points(run))
            assert ("curves/train_loss", step, 2.0) in store.points(pipeline)
        assert read_sent(stage.run.path).page.endswith(f"/runs/{run.info.run_id}/model-metrics?workflowType=machine_learning")
        store.calls.clear()
        publisher.update()
        assert store.calls == [] and (run.info.status, pipeline.info.status) == ("RUNNING", "RUNNING")
    stage.close("FINISHED")
    assert set(names_of(store.runs()).values()) == {"FINISHED"}


def test_a_stage_that_was_killed_ends_as_killed_with_its_last_sign(store, make_params, monkeypatch):
    def work():
        stage = open_stage("plain", make_params())
        with stage.run.at_work_in(runs_root() / "plain-key"):
            stage.run.point(0, {"loss": 1.0})

    as_gone(monkeypatch, work)
    for path in runs_root().rglob("*"):
        os.utime(path, (1_900_000_000, 1_900_000_000))
    publish_all()
    assert set(names_of(store.runs()).values()) == {"KILLED"}
    assert {run.info.end_time for run in store.runs()} == {1_900_000_000_000}
    assert store.runs("pipeline")[0].data.tags["stage.plain"] == "killed"


def test_the_stages_of_one_execution_end_it_where_nobody_else_does(store, folder, make_params, monkeypatch):
    (folder / "dvc.lock").write_text("stages:\n  train:\n    cmd: b\n    outs:\n    - path: c\n  prepare:\n    cmd: a\n")
    monkeypatch.setattr("pipelines.tracking.pipeline_run.execution_key", lambda: f"{GONE}1")
    for name, status in (("evolve", "FINISHED"), ("train", "FAILED"), ("report", "FINISHED")):
        open_stage(name, make_params()).close(status, 600 * "x" if status == "FAILED" else "")
        if name == "train":
            lock = next(runs_root().glob("pipeline-*/files/upload/dvc.lock")).read_text()
    publish_all()
    (pipeline,) = store.runs("pipeline")
    stages = {tag: value for tag, value in pipeline.data.tags.items() if tag.startswith("stage.")}
    assert stages == {"stage.evolve": "ran", "stage.train": "failed", "stage.report": "ran"}
    assert pipeline.info.status == "FAILED" and pipeline.info.end_time >= pipeline.info.start_time
    errors = [run.data.tags.get("gee.error") for run in [*store.runs("stage"), pipeline]]
    assert sorted(filter(None, errors)) == [500 * "x"] * 2
    assert lock == "stages:\n  prepare:\n    cmd: a\n"  # that of the stage at work is of an earlier run


def test_two_publishers_at_once_are_one_and_the_second_is_told_so(store, a_stage, monkeypatch):
    as_gone(monkeypatch, a_stage)
    monkeypatch.setattr(publish.os, "nice", lambda _: None)
    monkeypatch.setattr(publish, "PATIENCE", 0.0)
    monkeypatch.setattr("sys.argv", ["publish", "elsewhere/1/1"])
    with alone(runs_root(), 0):
        publish.main()
        with pytest.raises(InputError, match="another process is writing to MLflow"), alone(runs_root(), 0):
            pass
    assert store.calls == [] and len(waiting_folders(runs_root())) == 2


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"process": "elsewhere/1/1", "status": None}, "its process is on elsewhere: replay it there"),
        ({"store": "http://other.example"}, "it is for http://other.example: set MLFLOW_TRACKING_URI to that"),
    ],
)
def test_a_folder_of_another_machine_or_store_is_left_with_the_reason(store, a_stage, changes, why, monkeypatch):
    path = as_gone(monkeypatch, a_stage).run.path
    write_record(path, read_record(path).model_copy(update=changes))
    (hindrance,) = Publisher(runs_root()).update().values()
    assert hindrance.startswith(why) and store.runs("stage") == [] and path in waiting_folders(runs_root())


def test_what_mlflow_refuses_is_a_warning_and_left_out_alone(store, a_stage, expected, caplog, monkeypatch):
    path = as_gone(monkeypatch, a_stage).run.path
    rows = (path / ROWS).read_text().replace('"name": "cand1"', '"name": 7')
    (path / ROWS).write_text(rows)
    publish_all()
    assert store.state() == [run for run in expected if run[0] != "cand1"]
    assert f"MLflow refuses a part of {path.name}" in caplog.text


def test_a_deleted_experiment_is_named_with_its_remedy_and_written_once_restored(store, a_stage, expected, main, monkeypatch):
    experiment = find_experiment(store, "gee", "sqlite:")
    store.delete_experiment(experiment)
    as_gone(monkeypatch, a_stage)
    said = f"the experiment gee is deleted in MLflow: restore it with `mlflow experiments restore -x {experiment}`, or set MLF"
    code, out, _ = main("track", "replay")
    assert code == 1 and said in out and "; 2 are left, for the reasons above" in out
    store.restore_experiment(experiment)
    publish_all()
    assert store.state() == expected


def test_the_replay_says_what_was_written_and_who_is_away(store, a_stage, folder, main, expected, monkeypatch):
    record = read_record(as_gone(monkeypatch, a_stage).run.path)
    store.is_down = True
    store.calls.clear()
    code, out, _ = main("track", "replay")
    assert code == 1 and "   MLflow does not answer: ConnectionError: no route" in out
    assert len(store.calls) == 1  # the first folder is tried for both
    store.is_down = False
    assert main("track", "replay")[1].splitlines()[1:] == [
        f"{record.name}   written",
        f"2 runs written to sqlite:///{folder}/mlflow.db",
    ]
    assert store.state() == expected


def test_the_end_of_a_run_waits_no_longer_for_a_server_that_is_away(folder, make_params, caplog, monkeypatch):
    monkeypatch.setattr(publish, "RETRY", 0.01)
    execution = open_execution(make_params())
    (execution.run.path / SENT).write_text(json.dumps({"hindrance": "no route"}))
    execution.close("FINISHED")
    assert execution.address is None
    (record,) = caplog.records
    said = f"1 runs are not written yet (no route); they wait in {runs_root()}: the next run writes them"
    assert said in record.message


def test_a_publisher_ends_with_its_process_but_not_before_its_stages(store, make_params, monkeypatch):
    stage, passes = open_stage("report", make_params()), []

    def sleep(seconds: float) -> None:
        passes.append(set(names_of(store.runs()).values()))
        if len(passes) == 3:
            monkeypatch.setattr(publish, "wait", lambda run: (None, []))
            stage.close("FINISHED")

    monkeypatch.setattr(publish.time, "sleep", sleep)
    monkeypatch.setattr(publish.os, "nice", passes.append)
    monkeypatch.setattr("sys.argv", ["publish", GONE])
    publish.main()
    assert passes == [10, {"RUNNING"}, {"RUNNING"}] and set(names_of(store.runs()).values()) == {"FINISHED"}


@pytest.mark.parametrize("is_away", [False, True])
def test_a_search_that_is_resumed_or_repeated_has_each_candidate_once(store, make_params, is_away, monkeypatch):
    if is_away:
        monkeypatch.setattr(publish, "wait", lambda run: (None, []))
    for status, names in [("KILLED", "ab"), ("FAILED", "abc"), ("FINISHED", "abcd")]:
        as_gone(monkeypatch, lambda status=status, names=names: search(make_params(), names, status))
        if not is_away:
            publish_all()
    search(make_params(), "abcd")  # in another execution
    publish_all()
    _, second = store.runs("stage")  # the interrupted attempts went on in one run
    above = {run.info.run_name: run.data.tags["mlflow.parentRunId"] for run in store.runs("candidate")}
    assert above == dict.fromkeys("abcd", second.info.run_id)
    points = [[value for name, _, value in store.points(run) if name == "final_fitness"] for run in store.runs("candidate")]
    assert points == [[0.5]] * 4
    assert [run.info.status for run in store.runs("pipeline")] == ["FINISHED", "FINISHED"]


def test_a_resumed_search_keeps_no_candidate_that_has_other_genes_by_now(store, make_params, monkeypatch):
    as_gone(monkeypatch, lambda: search(make_params(), "abc", "KILLED", failed="b"))
    publish_all()
    assert names_of(store.runs("candidate")) == {"a": "FINISHED", "b": "FAILED", "c": "FINISHED"}
    search(make_params(), "abc", gene=0.25)  # b did not fail again, so that c has other genes
    runs = store.runs("candidate")
    assert {run.info.run_name: run.data.params["sigma_O"] for run in runs} == {"a": "0.1", "b": "0.25", "c": "0.25"}
    assert names_of(runs) == {"a": "FINISHED", "b": "FINISHED", "c": "FINISHED"}


def test_a_run_that_finds_nothing_to_do_ends_an_interrupted_one_and_publishes(store, make_params, monkeypatch):
    """All was killed at the very end, after DVC had noted the result."""
    as_gone(monkeypatch, lambda: open_stage("report", make_params()).run.note(metrics={"seen": 1.0}))
    publish_all()
    assert set(names_of(store.runs()).values()) == {"KILLED"}
    (runs_root() / "report-other").mkdir()
    record = next(record for record in map(read_record, runs_root().glob("report-*")) if record)
    write_record(runs_root() / "report-other", record.model_copy(update={"status": "FINISHED", "stage": "train", "entry": "x"}))
    with tracked_execution(make_params()) as tracked:
        assert tracked.goes_on
    assert [run.info.status for run in store.runs("pipeline")] == ["FINISHED"]
    assert waiting_folders(runs_root()) == {} and len(store.runs("stage")) == 2
    with tracked_execution(make_params()) as tracked:
        assert not tracked.goes_on
    assert len(store.runs("pipeline")) == 1


def test_a_store_has_a_child_of_a_study_under_the_key_of_the_study(store, folder):
    from pipelines.tracking.tracker import open_study

    for commit in ("a", "b"):
        study = open_study("key", "study x", {"study": "x"})
        for name in ("one", "two"):
            study.run.child(candidate(f"{name}-{commit}", level="cell"))
        study.run.artifact(folder / "plot.svg")
        study.close("FINISHED")
    (run,) = store.runs("study")
    assert names_of(store.runs("cell")) == dict.fromkeys(["one-a", "two-a", "one-b", "two-b"], "FINISHED")
    assert study.address.endswith(f"/runs/{run.info.run_id}?workflowType=machine_learning")
    assert (run.info.run_name, store.files(run), (runs_root() / "study-key" / RUN).is_file()) == ("study x", ["plot.svg"], True)

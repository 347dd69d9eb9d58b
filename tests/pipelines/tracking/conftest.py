"""A project with an MLflow of its own: a copy of one SQLite store that was made once. Its client can fail like a network."""

import json
import re
import shutil
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gee_core.data.meta import Meta
from pipelines.runtime.run_files import Child, Mark, waiting_folders
from pipelines.runtime.run_folder import runs_root
from pipelines.tracking import mlflow_client, publish
from pipelines.tracking.pipeline_run import describe_datasets
from pipelines.tracking.publish import Publisher
from pipelines.tracking.tags import NOTE, WINNER
from pipelines.tracking.tracker import TrackedStage, open_stage
from tests.pipelines.conftest import made_once
from tests.project_copy import ROOT

GONE = f"{socket.gethostname()}/4194303/1"

META = Meta(
    dataset="digits",
    source="scikit-learn digits",
    class_names=("a", "b"),
    class_counts=(30, 34),
    num_classes=2,
    in_channels=1,
    image_size=8,
    mean=(0.3,),
    std=(0.38,),
    n_train=64,
    n_test=24,
    n_holdout=16,
    stream=False,
    sha256=dict.fromkeys(["train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy", "holdout.npy"], "0"),
)


def make_folder(folder: Path) -> Path:
    """Make ``folder`` a project."""
    folder.mkdir(exist_ok=True, parents=True)
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "dvc.yaml").touch()
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """An mlflow.db without runs."""
    made = made_once(tmp_path_factory, "store", lambda folder: mlflow_client.connect(f"sqlite:///{folder}/mlflow.db"))
    return made / "mlflow.db"


class Store:
    """The client of the project's store; a call may fail before it does its work, or after it, so that its answer is lost."""

    def __init__(self, client: Any):
        self._client = client
        self.calls: list[str] = []
        self.is_down = False
        self.lost: int | None = None
        """The number of the call whose answer is lost."""
        self.dropped: int | None = None
        """The number of the call that never arrives."""

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not callable(attribute):
            return attribute

        def call(*args: Any, **kwargs: Any) -> Any:
            number = len(self.calls)
            self.calls.append(name)
            if self.is_down or number == self.dropped:
                raise ConnectionError("no route to the server")
            answer = attribute(*args, **kwargs)
            if number == self.lost:
                raise ConnectionError("broken pipe")
            return answer

        return call

    def runs(self, level: str = "") -> list[Any]:
        """Its runs, or those of a ``level``, in the order in which they were made."""
        experiment = self._client.get_experiment_by_name("gee")
        query = f"tags.`gee.level` = '{level}'" if level else ""
        found = mlflow_client.search_runs(self._client, experiment.experiment_id, query) if experiment else []
        return sorted(found, key=lambda run: run.info.start_time)

    def points(self, run: Any) -> list[tuple[str, int, float]]:
        """All points of a run."""
        histories = [self._client.get_metric_history(run.info.run_id, name) for name in run.data.metrics]
        return sorted((point.key, point.step, point.value) for history in histories for point in history)

    def files(self, run: Any, folder: str | None = None) -> list[str]:
        """Paths of the artifacts of a run."""
        found = self._client.list_artifacts(run.info.run_id, folder)
        return [path for f in found for path in (self.files(run, f.path) if f.is_dir else [f.path])]

    def state(self) -> list[Any]:
        """All that people see of it: no ids, keys and times."""
        runs = self.runs()
        names = {run.info.run_id: run.info.run_name for run in runs}
        inside = {"gee.entry", "mlflow.source.name", "mlflow.runName"}  # of a process that is gone no command is known
        shown = []
        for run in runs:
            tags = {name: _with_names(text, names) for name, text in sorted(run.data.tags.items()) if name not in inside}
            inputs = [(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs]
            about = run.info.run_name, run.info.status, dict(sorted(run.data.params.items()))
            shown.append([*about, tags, self.points(run), self.files(run), sorted(inputs)])
        return sorted(shown, key=str)

    def clear(self) -> None:
        """Delete all runs, and forget the calls."""
        for run in self.runs():
            self._client.delete_run(run.info.run_id)
        self.calls.clear()
        self.lost = self.dropped = None


def _with_names(text: str, names: dict[str, str]) -> str:
    """``text`` with the name of a run in place of its id."""
    return re.sub(r"\b[0-9a-f]{32}\b", lambda found: names.get(found[0], "another"), text)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A project folder, and the current one. Runs are tracked, and nobody publishes them."""
    make_folder(tmp_path)
    (tmp_path / "plot.svg").write_text("<svg/>")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEE_TRACKING", "on")
    monkeypatch.setattr(publish, "start", lambda owner: None)
    return tmp_path


@pytest.fixture
def store(folder, empty_store, monkeypatch) -> Store:
    """The store of the project, to which the end of each execution publishes, in this process."""
    shutil.copy(empty_store, folder)
    store = Store(mlflow_client.connect(f"sqlite:///{folder}/mlflow.db"))
    monkeypatch.setattr(mlflow_client, "connect", lambda uri: store)
    wait = publish.wait
    monkeypatch.setattr(publish, "wait", lambda run: (publish_all(), wait(run))[1])
    monkeypatch.setattr(publish, "RETRY", 0.01)
    return store


def publish_all() -> None:
    """Publish what is there until MLflow has everything, or can have no more."""
    for _ in range(4):
        Publisher(runs_root()).update()
        if not waiting_folders(runs_root()):
            break


def as_gone(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> Any:
    """``work`` as done by a process that is gone."""
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.tracking.tracker.own_process", lambda: GONE)
        patch.setattr("pipelines.tracking.pipeline_run.execution_key", lambda: f"{GONE}1")
        return work()


def candidate(name: str, fitness: float | None = 0.5, sigma_O: float = 0.1, level: str = "candidate") -> Child:
    """A candidate that was scored for 9.25 s, or has failed."""
    return Child(
        child=f"{name}-{fitness}-{sigma_O}",
        level=level,
        name=name,
        params={"width": "0.2", "sigma_O": str(sigma_O)},
        tags={"status": "ok" if fitness else "failed: no"},
        metrics={"fitness": float("nan") if fitness is None else fitness, "gene.sigma_O": sigma_O},
        texts={"genotype.json": "{}"},
        start=1_700_000_000_250,
        time=1_700_000_009_500,
        status="FINISHED" if fitness else "FAILED",
    )


def search(params, names: str, status: str = "FINISHED", failed: str = "", gene: float = 0.5) -> TrackedStage:
    """Track a search that knows or scores candidates and then ends; all but the first have the ``gene``."""
    stage = open_stage("evolve", params)
    rows = [candidate(name, None if name in failed else 0.5, 0.1 if name == names[0] else gene) for name in names]
    with stage.run.at_work_in(runs_root() / "evolve-key"):
        for row in rows:
            stage.run.child(row)
        if status == "FINISHED":
            stage.run.record.marks = {row.child: Mark(metrics={"final_fitness": 0.5}) for row in rows}
            stage.run.save()
    stage.close(status)
    return stage


@pytest.fixture
def a_stage(folder, make_params):
    """Tracks a small stage: opens it, notes a bit of everything but a model, closes it."""

    def track(status: str = "FINISHED") -> TrackedStage:
        stage = open_stage("evolve", make_params())
        run, above = stage.run, stage.execution.run
        with run.at_work_in(runs_root() / "evolve-key"):
            params = {"variant": "each key once per run", "more": 1} | {f"p@{i}": i for i in range(110)}
            run.note(params, datasets=describe_datasets(META, "training", "testing"))
            run.record.views = {"candidates": json.dumps({"query": "{run_id}"})}
            rows = [candidate("cand0"), candidate("cand1", 0.25), candidate("cand2", None)]
            for step, row in enumerate(rows):
                run.child(row)
                run.point(step, {"best": 1.0 - step, "generation_least_fitness": 0.5, "energy_mj": 0.002})
            won = Mark(metrics={"final_fitness": 0.4, "rank": 1}, tags={WINNER: "true"})
            run.record.marks = dict.fromkeys([row.child for row in rows], Mark()) | {rows[0].child: won}
            run.note(metrics={"gain": 2.0, "test_loss": float("inf")})
            run.artifact(folder / "plot.svg", "plots")
            above.note(metrics={"test_accuracy": 0.9}, tags={"gee.result": "abc", NOTE: "the table"})
            above.artifact(folder / "plot.svg")
        stage.close(status)
        return stage

    return track


def names_of(runs: list[Any]) -> dict[str, str]:
    """The status of each run by its name."""
    return {run.info.run_name: run.info.status for run in runs}


def query(database: Path, statement: str) -> list[tuple[Any, ...]]:
    """The answer of a SQLite file."""
    import sqlite3

    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(statement).fetchall()

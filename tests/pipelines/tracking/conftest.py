"""A store in memory with the part of MlflowClient that publishing uses, and a network that can fail between the two."""

import os
import re
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace as Values

import pytest
from pipelines.tracking.folder import Run, tracking_root

from gee_core.data.meta import Meta
from pipelines.tracking import publish
from pipelines.tracking.publish import Publisher
from pipelines.tracking.tags import NOTE
from pipelines.tracking.tracker import Tracker
from tests.project_copy import ROOT

KEYS = {"dataset": "digits", "network": "vgg16", "n_genes": 6, "variant": "ste", "width": 1, "seed": 0}
PIPELINE = "digits · g=6"
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


class Faulty:
    """Every call may fail before it does its work (``do_NAME`` of the class), or after it (its answer is lost).

    ``lose``, ``drop``: numbers of calls whose answer is lost, or that never arrive. ``late``: numbers of calls that never
    arrive in time: they are carried out before the next but one.
    """

    def __init__(self):
        self.calls: list[str] = []
        self.is_down = False
        self.lose, self.drop, self.late = set(), set(), set()
        self._due: list = []

    def __getattr__(self, name):
        if name.startswith("_") or not (work := getattr(type(self), f"do_{name}", None)):
            raise AttributeError(name)

        def call(*args, **kwargs):
            number = len(self.calls)
            self.calls.append(name)
            while self._due and self._due[0][0] <= number:
                self._due.pop(0)[1]()
            if number in self.late:
                self._due.append((number + 3, lambda: work(self, *args, **kwargs)))
            if self.is_down or number in self.drop | self.late:
                raise ConnectionError(f"no route to {os.environ['MLFLOW_TRACKING_URI']}")
            answer = work(self, *args, **kwargs)
            if number in self.lose:
                raise ConnectionError("broken pipe")
            return answer

        return call


class FakeClient(Faulty):
    """Experiments and runs."""

    def __init__(self):
        super().__init__()
        self.runs: dict[str, Values] = {}
        self.experiments: dict[str, Values] = {}

    def do_get_experiment_by_name(self, name):
        return self.experiments.get(name)

    def do_create_experiment(self, name, artifact_location):
        assert name not in self.experiments
        self.experiments[name] = Values(
            experiment_id=str(len(self.experiments)), tags={}, lifecycle_stage="active", artifact_location=""
        )
        return self.experiments[name].experiment_id

    def do_set_experiment_tag(self, experiment_id, key, value):
        list(self.experiments.values())[int(experiment_id)].tags[key] = value

    def do_create_run(self, experiment_id, start_time, tags, run_name):
        run_id, points = f"run{len(self.calls)}", set()  # also where runs were deleted
        info = Values(run_id=run_id, run_name=run_name, status="RUNNING", start_time=start_time, end_time=None)
        proto = lambda: Values(metrics=[Values(timestamp=timestamp) for _, _, timestamp, _ in points])  # noqa: E731
        data = Values(params={}, tags=dict(tags), metrics={}, to_proto=proto)
        self.runs[run_id] = Values(info=info, data=data, points=points, files={}, inputs=set())
        return snapshot(self.runs[run_id])

    def do_search_runs(self, experiments, query, max_results=1000, page_token=None):
        name, operator, value = re.fullmatch(r"(?:tags\.`|attributes\.)([\w.]+)`? (=|LIKE) '(.*)'", query).groups()
        pattern = re.escape(value).replace("%", ".*") if operator == "LIKE" else re.escape(value)
        values = {id: run.info.status if name == "status" else run.data.tags.get(name, "") for id, run in self.runs.items()}
        return Page(snapshot(self.runs[run_id]) for run_id, value in values.items() if re.fullmatch(pattern, value))

    def do_get_run(self, run_id):
        return snapshot(self.runs[run_id])

    def do_delete_tag(self, run_id, key):
        del self.runs[run_id].data.tags[key]

    def do_update_run(self, run_id, status):
        self.runs[run_id].info.status = status

    def do_delete_run(self, run_id):
        del self.runs[run_id]

    def do_set_tag(self, run_id, key, value):
        self.runs[run_id].data.tags[key] = value

    def do_set_terminated(self, run_id, status, end_time):
        self.runs[run_id].info.status, self.runs[run_id].info.end_time = status, end_time

    def do_log_batch(self, run_id, metrics, params, tags):
        run = self.runs[run_id]
        if any(run.data.params.get(param.key, param.value) != param.value for param in params):
            raise ValueError("a parameter cannot be changed")
        run.data.params.update({param.key: param.value for param in params})
        run.data.tags.update({tag.key: tag.value for tag in tags})
        run.points |= {(metric.key, metric.step, metric.timestamp, metric.value) for metric in metrics}
        run.data.metrics.update({metric.key: metric.value for metric in metrics})

    def do_log_inputs(self, run_id, inputs):
        self.runs[run_id].inputs |= {(each.dataset.name, each.dataset.digest) for each in inputs}

    def do_log_text(self, run_id, text, file):
        self.runs[run_id].files[file] = text

    def do_log_artifact(self, run_id, path, folder):
        self.runs[run_id].files[f"{folder or ''}/{Path(path).name}"] = Path(path).read_text()

    def state(self) -> list:
        """All that people see of it, without what a run is called inside."""
        names = {run_id: run.info.run_name for run_id, run in self.runs.items()}
        inside = {"gee.entry", "gee.process", "mlflow.source.name"}  # the last is not known of a process that is gone
        return sorted(
            [
                run.info.run_name,
                run.info.status,
                sorted(run.data.params.items()),
                sorted((k, re.sub(r"run\d+", lambda m: names[m[0]], v)) for k, v in run.data.tags.items() if k not in inside),
                sorted((name, step, value) for name, step, _, value in run.points),
                sorted(run.files.items()),
                sorted(run.inputs),
            ]
            for run in self.runs.values()
        )


def snapshot(run: Values) -> Values:
    """The answer of a server, which does not change with the run."""
    data = {name: dict(values) for name, values in vars(run.data).items() if name != "to_proto"}
    return Values(info=Values(**vars(run.info)), data=Values(**data, to_proto=run.data.to_proto))


class Page(list):
    """A page of results, the last."""

    token = None


def publish_all() -> None:
    """Publish what is there until MLflow has everything, or can have no more."""
    for _ in range(9):
        publisher = Publisher(tracking_root())
        publisher.update()
        publisher.end_abandoned_runs()
        if not folders():
            break


@pytest.fixture
def client(monkeypatch) -> FakeClient:
    """What a publisher connects to in place of a server. It works in the process of the test, at the end of each execution."""
    import mlflow.entities  # noqa: F401 - seconds, which a fake server does not have

    client = FakeClient()
    monkeypatch.setattr("pipelines.tracking.mlflow_client.connect", lambda uri: client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    monkeypatch.setattr(publish, "start", lambda *_: None)
    wait = publish.wait
    monkeypatch.setattr(publish, "wait", lambda *about: (publish_all(), wait(*about))[1])
    return client


def make_folder(folder: Path) -> Path:
    """Make ``folder`` a project."""
    folder.mkdir(exist_ok=True, parents=True)
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "dvc.yaml").touch()
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A project folder, and the current one."""
    make_folder(tmp_path)
    (tmp_path / "plot.svg").write_text("<svg/>")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def candidate(name: str, fitness: float | None = 0.5, sigma_O: float = 0.1, level: str = "candidate") -> Run:
    """A candidate that was scored for 9.25 s, or has failed."""
    status, metrics = ("FAILED", {}) if fitness is None else ("FINISHED", {"fitness": fitness})
    params, times = {"width": "0.2", "sigma_O": str(sigma_O)}, {"start": 1_700_000_000_250, "time": 1_700_000_009_500}
    texts = {"genotype.json": "{}"}
    return Run(key="", level=level, name=name, params=params, metrics=metrics, texts=texts, status=status, **times)


@pytest.fixture
def stage(folder):
    """Tracks a small stage: opens a tracker, tells it a bit of everything but a model, closes it."""

    def track(status: str = "FINISHED") -> Tracker:
        tracker = Tracker("evolve", KEYS, name=PIPELINE, params={f"section.key{i}": str(i) for i in range(110)})
        tracker.search("search", ["gene.sigma_O"], ["L_ce"])
        for context in ("training", "testing"):
            tracker.dataset(META, context)
        tracker.params({"variant": "each key once per run", "more": 1})
        for step in range(2):
            tracker.child(f"cand{step}", candidate(f"cand{step}", 0.5 / (step + 1)))
            tracker.metrics({"best": 1.0 - step, "generation_least_fitness": 0.5, "energy_mj": 0.002}, step=step)
        tracker.child("cand2", candidate("cand2", None))
        tracker.mark({"cand0": ({"final_fitness": 0.4, "rank": 1}, {"gee.winner": "true"})})
        tracker.artifact(folder / "plot.svg", "plots")
        tracker.metrics({"test_accuracy": 0.9, "final_fitness": 9.0}, shared=True)
        tracker.tags({"gee.result": "abc", NOTE: "the table"}, shared=True)
        tracker.artifact(folder / "plot.svg", shared=True)
        tracker.close(status)
        return tracker

    return track


@pytest.fixture
def left(client, stage, monkeypatch):
    """Tracks that stage in a process that then is gone; its folder, which nobody has published."""

    def track() -> Path:
        with monkeypatch.context() as patch:
            patch.setattr("pipelines.tracking.tracker.process_key", lambda process: GONE)
            patch.setattr("pipelines.tracking.pipeline_run.execution_key", lambda: f"{GONE}1")
            return stage().folder

    return track


def folders() -> list[Path]:
    """The folders of which MLflow does not have everything."""
    return [path.parent for path in tracking_root().glob("2*/run.json")]


def by_level(client: FakeClient, level: str) -> list[Values]:
    """The runs of a level."""
    return [run for run in client.runs.values() if run.data.tags["gee.level"] == level]

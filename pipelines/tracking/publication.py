"""Makes MLflow equal to one folder of `pipelines.tracking.folder`.

Each run and model has a tag with its key, by which it is found before it is made, and parameters, points, tags and files
replace themselves. So publishing a folder may be killed anywhere, and repeated.
"""

import itertools
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.tracking import mlflow_client, pipeline_run
from pipelines.tracking.experiment_page import RUN_ID, VIEW, run_address, search_links
from pipelines.tracking.folder import End, ExportedModel, Point, Run, Told, files_in, last_sign
from pipelines.tracking.mlflow_client import Client, is_refusal, log_batch, reason
from pipelines.tracking.mlflow_models import write_model
from pipelines.tracking.tags import ENTRY, ERROR, LEVEL, NAME, NOTE, PARENT, PROCESS, SEARCH

log = logging.getLogger("pipelines.tracking")

COMPLETE = ("FINISHED", "FAILED")
"""How a whole run of a candidate or cell has ended."""


class Publication:
    """Makes MLflow equal to one folder, pass by pass. After an error it is unknown what arrived, so another has to begin."""

    def __init__(self, client: Client, uri: str, folder: Path, told: Told):
        self._client, self._folder = client, folder
        self.experiment_id = mlflow_client.find_experiment(client, told.experiment, uri)
        self._runs: dict[str, Any] = {}
        """By their keys."""
        self._keys: set[str] = set()
        """Patterns of the keys of its runs."""
        self._done: set[str] = set()
        self.models: list[str] = []
        """What became of the models that it registered."""
        self._find(told.own.key, told.shared.key)
        self._open_shared(told)
        self._shared = self._id(told.shared, told.origin)
        self._own = self._id(told.own, told.origin | {PARENT: self._shared})
        self.address = run_address(uri, self.experiment_id, self._shared)

    def update(self, told: Told, status: End | None, on_file: Callable[[], object]) -> None:
        """Add what MLflow lacks, and end the run where there is a ``status``."""
        both = list(dict.fromkeys((self._own, self._shared)))
        if told.search:
            self._once(told.search, partial(self._find, f"{told.search}/%"))
        if told.views:
            self._once("views", partial(self._write_views, told.views))
        for run_id, run in ((self._own, told.own), (self._shared, told.shared)):
            self._once((run_id, run.params, run.tags), partial(self._write_values, run_id, run))
        for (context, dataset), run_id in itertools.product(told.datasets.items(), both):
            self._once((context, run_id), partial(mlflow_client.log_dataset, self._client, run_id, dataset, context))
        for place, write in (("points", self._write_point), ("children", partial(self._write_child, told))):
            for path in files_in(self._folder / place):
                self._accept(partial(write, path))
                path.unlink()
                on_file()
        for point, tags in told.marks:
            self._once(point, partial(self._write_mark, point, tags))
        if told.model:
            self._once("model", partial(self._write_model, told.model))
        for place in ("begin", "own", "shared", "end"):
            for path in files_in(self._folder / place):
                self._accept(partial(self._upload, place, path))
                path.unlink()
                on_file()
        if status:
            self._end(told, status)

    def _accept(self, write: Callable[[], object]) -> None:
        """Do it; if MLflow refuses it for good, it is left out with a warning."""
        try:
            write()
        except Exception as error:
            if not is_refusal(error):
                raise
            log.warning("MLflow refuses a part of %s, which is left out: %s", self._folder.name, reason(error))

    def _once(self, content: object, write: Callable[[], object]) -> None:
        """`_accept`, unless it was done for this ``content``."""
        if repr(content) not in self._done:
            self._accept(write)
            self._done.add(repr(content))

    def _find(self, *keys: str) -> None:
        """Note the runs with these keys, and delete doubled ones, which a server made too late to answer the request."""
        self._keys |= set(keys)
        for key in keys:
            runs = mlflow_client.search_runs(self._client, self.experiment_id, f"tags.`{ENTRY}` LIKE '{key}'")
            for run in sorted(runs, key=lambda run: run.info.status not in COMPLETE):
                if self._runs.setdefault(run.data.tags[ENTRY], run).info.run_id != run.info.run_id:
                    self._client.delete_run(run.info.run_id)

    def _id(self, run: Run, tags: dict[str, str]) -> str:
        """The id of ``run`` in MLflow, which is made with these ``tags`` if it is not there."""
        if run.key not in self._runs:
            tags = tags | run.tags | {LEVEL: run.level, ENTRY: run.key}
            made = self._client.create_run(self.experiment_id, start_time=run.start, tags=tags, run_name=run.name)
            self._runs[run.key] = made
        return str(self._runs[run.key].info.run_id)

    def _open_shared(self, told: Told) -> None:
        """Let the run of the execution or study go on, if it is there."""
        known, client = self._runs.get(told.shared.key), self._client
        if known is None:
            return
        run_id, is_study = known.info.run_id, told.shared.level == "study"
        if is_study:
            client.set_tag(run_id, PROCESS, told.execution)
            if ERROR in known.data.tags:  # of an earlier attempt
                client.delete_tag(run_id, ERROR)
        if told.own.status is None and (is_study or not told.in_flow):
            client.update_run(run_id, status="RUNNING")

    def _write_views(self, views: dict[str, str]) -> None:
        for name, view in views.items():
            text = view.replace(RUN_ID, self._own)
            self._client.set_experiment_tag(self.experiment_id, f"{VIEW}{name}-{self._own}", text)
        links = search_links(self.experiment_id, self._own)
        for run_id in (self._own, self._shared):
            if self._client.get_run(run_id).data.tags.get(SEARCH) != self._own:  # else it may have the note of the report
                log_batch(self._client, run_id, tags={SEARCH: self._own, NOTE: links})

    def _write_values(self, run_id: str, run: Run) -> None:
        known, tags = self._client.get_run(run_id).data, dict(run.tags)
        if NOTE in tags and SEARCH in known.tags:
            tags[NOTE] = f"{search_links(self.experiment_id, known.tags[SEARCH])}\n\n{tags[NOTE]}"
        log_batch(self._client, run_id, {key: value for key, value in run.params.items() if key not in known.params}, tags)

    def _write_point(self, path: Path) -> None:
        point = Point.model_validate_json(path.read_bytes())
        log_batch(self._client, self._runs[point.key].info.run_id, point=point)

    def _write_mark(self, point: Point, tags: dict[str, str]) -> None:
        """Add what the candidate lacks: a stage that is repeated marks it again, at another time."""
        run_id = self._runs[point.key].info.run_id
        known = self._client.get_run(run_id).data.metrics
        metrics = {name: value for name, value in point.metrics.items() if known.get(name) != value}
        log_batch(self._client, run_id, tags=tags, point=point.model_copy(update={"metrics": metrics}))

    def _write_child(self, told: Told, path: Path) -> None:
        """Write a candidate or cell; a complete one of an interrupted or repeated run moves below this run."""
        client, child = self._client, Run.model_validate_json(path.read_bytes())
        above = {name: child.tags[name] for name in (NAME,) if name in child.tags} | {PARENT: self._own}
        known = self._runs.get(child.key)
        if known and known.info.status in COMPLETE:
            log_batch(client, known.info.run_id, tags=above)
            return
        run_id = self._id(child, above)
        point = Point(key=child.key, time=child.ended, step=0, metrics=child.metrics)
        log_batch(client, run_id, child.params, child.tags | above, point)
        for file, text in child.texts.items():
            client.log_text(run_id, text, file)
        client.set_terminated(run_id, child.status, child.ended)

    def _write_model(self, model: ExportedModel) -> None:
        own, shared, key = self._own, self._shared, f"{self._folder.name}/model"
        if said := write_model(self._client, self.experiment_id, own, shared, model, key):
            print(f"MLflow: {said}", flush=True)
            self.models.append(said)

    def _upload(self, place: str, path: Path) -> None:
        folder, run_id = path.parent.relative_to(self._folder / place), self._own if place == "own" else self._shared
        self._client.log_artifact(run_id, str(path), None if folder == Path() else str(folder))

    def _end(self, told: Told, status: End) -> None:
        client, time = self._client, last_sign(self._folder, told)
        self._find(*self._keys)
        if told.error:
            for run_id in dict.fromkeys((self._own, self._shared)):
                client.set_tag(run_id, ERROR, told.error)
        client.set_terminated(self._own, status, time)
        if told.stage:
            client.set_tag(self._shared, f"stage.{told.stage}", "ran" if status == "FINISHED" else status.lower())
            if not told.in_flow:
                pipeline_run.end_pipeline_run(client, self._shared, time)

"""Makes MLflow equal to one folder of `pipelines.tracking.folder`.

Each run and model has a tag with its key, by which it is found before it is made, and parameters, points, tags and files
replace themselves. So publishing a folder may be killed anywhere, and repeated from its first line.
"""

import contextlib
import logging
from pathlib import Path, PurePath
from typing import Any

from pipelines.runtime.process_tree import is_gone
from pipelines.tracking import mlflow_client, pipeline_run
from pipelines.tracking.experiment_page import RUN_ID, VIEW, run_address, search_links
from pipelines.tracking.folder import LOG, End, Run, Told, last_sign
from pipelines.tracking.mlflow_client import Client, is_refusal, log_batch, reason
from pipelines.tracking.mlflow_models import write_model
from pipelines.tracking.tags import ENTRY, ERROR, LEVEL, NAME, NOTE, PARENT, PROCESS, SEARCH, SETTINGS, STAGE

log = logging.getLogger("pipelines.tracking")

COMPLETE = ("FINISHED", "FAILED")
"""How a whole run of a candidate or cell has ended."""


class Publication:
    """Makes MLflow equal to one folder, pass by pass. After an error it is unknown what arrived, so another has to begin."""

    def __init__(self, client: Client, uri: str, folder: Path, told: Told):
        self._client, self._folder, self._told = client, folder, told
        self.experiment_id = mlflow_client.find_experiment(client, told.experiment, uri)
        self._runs: dict[str, Any] = {}
        """By their keys, as they were when they were found or made."""
        self._patterns: set[str] = set()
        """Of the keys of its runs."""
        self._position = 0
        """How much of the log was read."""
        self.models: list[str] = []
        """What became of the models that it registered."""
        self._find(told.own.key, told.shared.key)
        self._open_shared()
        self._shared = self._id(told.shared)
        self._own = self._id(told.own, self._shared)
        self.address = run_address(uri, self.experiment_id, self._shared)
        self.page = run_address(uri, self.experiment_id, f"{self._own}/model-metrics")

    def update(self, told: Told, status: End | None) -> None:
        """Add what was told since the last pass, and end the run where there is a ``status``."""
        new = b""
        with contextlib.suppress(FileNotFoundError), (self._folder / LOG).open("rb") as file:  # none, on a full disk
            file.seek(self._position)
            new = file.read()
        for text in new.splitlines(keepends=True):
            if not text.endswith(b"\n"):  # not yet whole
                break
            try:
                if text.strip():
                    self._write(Run.model_validate_json(text))
            except Exception as error:
                if not is_refusal(error):
                    raise
                log.warning("MLflow refuses a part of %s, which is left out: %s", self._folder.name, reason(error))
            self._position += len(text)
        if status:
            self._end(told, status)

    def _write(self, line: Run) -> None:
        if line.level:
            self._write_child(line)
            return
        known, run_id, tags, metrics = self._runs[line.key].data, self._id(line), line.tags, line.metrics
        params = {name: value for name, value in line.params.items() if name not in known.params}
        # a repeated search marks its candidates again, at another time, and an execution tells again what report told
        if not self._told.stage or run_id not in (self._own, self._shared):
            metrics = {name: value for name, value in metrics.items() if known.metrics.get(name) != value}
        if NOTE in tags and (search := self._client.get_run(run_id).data.tags.get(SEARCH)):
            tags[NOTE] = f"{search_links(self.experiment_id, search)}\n\n{tags[NOTE]}"
        log_batch(self._client, run_id, params, tags, metrics, line.time, line.step)
        known.params.update(params)
        if line.dataset:
            mlflow_client.log_dataset(self._client, run_id, *line.dataset)
        if line.views:
            self._write_views(line.views)
        if line.artifact:
            folder = PurePath(*PurePath(line.artifact).parts[1:-1])
            self._client.log_artifact(run_id, str(self._folder / line.artifact), None if folder == PurePath() else str(folder))
        if line.model:
            key = f"{self._folder.name}/model"
            if said := write_model(self._client, self.experiment_id, self._own, self._shared, line.model, key):
                print(f"MLflow: {said}", flush=True)
                self.models.append(said)

    def _find(self, *patterns: str) -> None:
        """Note the runs with such keys, and delete doubled ones, which a server made too late to answer the request."""
        self._patterns |= set(patterns)
        for pattern in patterns:
            runs = mlflow_client.search_runs(self._client, self.experiment_id, f"tags.`{ENTRY}` LIKE '{pattern}'")
            for run in sorted(runs, key=lambda run: run.info.status not in COMPLETE):
                if self._runs.setdefault(run.data.tags[ENTRY], run).info.run_id != run.info.run_id:
                    self._client.delete_run(run.info.run_id)

    def _id(self, run: Run, above: str = "") -> str:
        """The id of ``run`` in MLflow, which is made below ``above`` if it is not there."""
        if run.key not in self._runs:
            tags = run.tags | ({PARENT: above} if above else {}) | {LEVEL: run.level, ENTRY: run.key}
            made = self._client.create_run(self.experiment_id, start_time=run.start, tags=tags, run_name=run.name)
            self._runs[run.key] = made
        return str(self._runs[run.key].info.run_id)

    def _open_shared(self) -> None:
        """Let the run of the execution or study go on, if it is there, or that of an execution which was interrupted."""
        shared, client = self._told.shared, self._client
        if shared.key not in self._runs:
            query = f"tags.`{SETTINGS}` = '{shared.tags.get(SETTINGS)}'"
            runs = mlflow_client.search_runs(client, self.experiment_id, query)
            for run in [r for r in runs if r.info.status != "FINISHED" and is_gone(r.data.tags[PROCESS])][:1]:
                self._runs[shared.key] = run
        if (known := self._runs.get(shared.key)) is None:
            return
        run_id = known.info.run_id
        again = shared.level == "study" or known.data.tags[PROCESS] != self._told.execution
        if again:
            log_batch(client, run_id, tags=shared.tags | {ENTRY: shared.key})
            if ERROR in known.data.tags:
                client.delete_tag(run_id, ERROR)
        if self._told.own.status is None and (again or not self._told.in_flow):
            client.update_run(run_id, status="RUNNING")

    def _write_views(self, views: dict[str, str]) -> None:
        for name, view in views.items():
            text = view.replace(RUN_ID, self._own)
            self._client.set_experiment_tag(self.experiment_id, f"{VIEW}{name}-{self._own}", text)
        links = search_links(self.experiment_id, self._own)
        for run_id in (self._own, self._shared):
            if self._client.get_run(run_id).data.tags.get(SEARCH) != self._own:  # else it may have the note of the report
                log_batch(self._client, run_id, tags={SEARCH: self._own, NOTE: links})

    def _write_child(self, child: Run) -> None:
        """Write a candidate or cell; a complete one of an interrupted or repeated run moves below this run."""
        pattern = f"{child.key.partition('/')[0]}/%"
        if pattern not in self._patterns:
            self._find(pattern)
        client, known = self._client, self._runs.get(child.key)
        is_complete = known is not None and known.info.status in COMPLETE
        run_id = self._id(child, self._own)
        above = {name: value for name, value in child.tags.items() if name == NAME} | {PARENT: self._own}
        log_batch(client, run_id, tags=dict(above.items() - self._runs[child.key].data.tags.items()))
        if is_complete:
            return
        log_batch(client, run_id, child.params, child.tags, child.metrics, child.time)
        for file, text in child.texts.items():
            client.log_text(run_id, text, file)
        client.set_terminated(run_id, child.status, child.time)

    def _end(self, told: Told, status: End) -> None:
        client, time = self._client, last_sign(self._folder, told)
        self._find(*self._patterns)
        client.set_terminated(self._own, status, time)
        if told.stage:
            below = mlflow_client.search_runs(client, self.experiment_id, f"tags.`{PARENT}` = '{self._shared}'")
            for run in below if status == "FINISHED" else ():  # it has all of its interrupted attempts
                if run.data.tags.get(STAGE) == told.stage and run.info.status in ("FAILED", "KILLED"):
                    client.delete_run(run.info.run_id)
            client.set_tag(self._shared, f"stage.{told.stage}", "ran" if status == "FINISHED" else status.lower())
            if not told.in_flow:
                pipeline_run.end_pipeline_run(client, self._shared, time)

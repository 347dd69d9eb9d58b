"""Writes a tracker's entries to MLflow.

Writing is idempotent: each run and model has a tag with its key, by which it is found before it is made; parameters, points
of curves, tags and files replace themselves. So an entry can be written again when it is unknown whether it arrived.
"""

from typing import Any

from pipelines.tracking import mlflow_client, pipeline_run
from pipelines.tracking.entries import OWN, SHARED, Child, Close, Dataset, Entry, Log, LogModel, Open
from pipelines.tracking.experiment_page import RUN_ID, VIEW, run_address, search_links
from pipelines.tracking.mlflow_client import Client, log_batch
from pipelines.tracking.mlflow_models import write_model
from pipelines.tracking.outbox import Outbox
from pipelines.tracking.tags import ENTRY, ERROR, LEVEL, NAME, NOTE, PARENT, PROCESS, SEARCH, STAGE, STUDY, WORK

COMPLETE = ("FINISHED", "FAILED")
"""How a whole run of a candidate or cell has ended."""


class MlflowWriter:
    """Writes the entries of ``outbox``, whose first is ``opening``, to the store ``uri``.

    After an error that is no refusal a writer cannot go on, because it is unknown what arrived.
    """

    def __init__(self, client: Client, uri: str, outbox: Outbox, opening: Open):
        self._client, self._uri, self._outbox, self._opening = client, uri, outbox, opening
        self._works = [opening.study or outbox.name]
        """Beginnings of the keys of its runs."""
        self._runs: dict[str, Any] = {}
        """The runs by their keys; also the tracker's own and the shared one."""
        self._experiment_id = ""

    def write(self, entry: Entry) -> None:
        """Write one entry; any error of MLflow may come out of it, see `refuses`."""
        if OWN not in self._runs:
            self._open()
        match entry:
            case Log():
                self._log(entry)
            case Child():
                self._write_child(entry)
            case Dataset():
                for run_id in self._own_and_shared():
                    mlflow_client.log_dataset(self._client, run_id, entry.dataset, entry.context)
            case LogModel():
                files = {(path := self._outbox.folder / file).name: path for file in entry.files}
                own, shared = self._id(OWN), self._id(SHARED)
                write_model(self._client, self._experiment_id, own, shared, entry, files, f"{self._outbox.name}/model")
            case Close():
                self._close(entry)

    def address(self) -> str:
        """Address of the execution's or the study's run in MLflow's pages."""
        return run_address(self._uri, self._experiment_id, self._id(SHARED))

    def refuses(self, error: Exception) -> bool:
        """Whether MLflow refuses an entry for good. Before the run exists, no entry is refused: all have to wait."""
        return OWN in self._runs and mlflow_client.is_refusal(error)

    def end_abandoned_runs(self) -> None:
        """`pipeline_run.end_abandoned_runs` of its experiment."""
        pipeline_run.end_abandoned_runs(self._client, self._experiment_id)

    def _id(self, key: str) -> str:
        return str(self._runs[key].info.run_id)

    def _own_and_shared(self) -> list[str]:
        return list(dict.fromkeys((self._id(OWN), self._id(SHARED))))

    def _open(self) -> None:
        opening = self._opening
        self._experiment_id = mlflow_client.find_experiment(self._client, opening.experiment, self._uri)
        self._find_runs()
        own = self._runs[SHARED] = self._open_shared("study" if opening.study else "pipeline")
        if opening.stage:
            tags = opening.tags | {STAGE: opening.stage, NAME: opening.name, PROCESS: opening.process}
            name = f"{opening.stage} · {opening.name}"
            own = self._run(f"{self._outbox.name}/stage", "stage", name, opening.time, tags | {PARENT: self._id(SHARED)})
            log_batch(self._client, own.info.run_id, opening.keys)
        self._runs[OWN] = own

    def _open_shared(self, level: str) -> Any:
        """The run of the execution or of the study, which any of its processes finds by a tag or makes."""
        opening, client = self._opening, self._client
        key, value = (STUDY, opening.study) if opening.study else (PROCESS, opening.execution)
        found = self._search(f"tags.`{LEVEL}` = '{level}' and tags.`{key}` = '{value}'")
        if not found:
            tags = opening.tags | {PROCESS: opening.execution, key: value}
            run = self._run(f"{self._works[0]}/{level}", level, opening.name, opening.time, tags)
        else:
            run = self._runs[found[0].data.tags[ENTRY]] = found[0]
            if opening.study or not opening.in_flow:
                client.update_run(run.info.run_id, status="RUNNING")
            if opening.study:
                client.set_tag(run.info.run_id, PROCESS, opening.execution)
                if ERROR in run.data.tags:  # of an earlier attempt
                    client.delete_tag(run.info.run_id, ERROR)
        params = opening.keys | opening.params
        known = found[0].data.params if found else {}
        log_batch(client, run.info.run_id, {key: value for key, value in params.items() if key not in known})
        if not found or opening.time >= pipeline_run.last_change(found[0]):  # else a later stage has uploaded newer ones
            self._upload(run.info.run_id, opening)
        return run

    def _run(self, key: str, level: str, name: str, start: int, tags: dict[str, str]) -> Any:
        """The run with this ``key``; it is made if there is none."""
        if key not in self._runs:
            tags = tags | {LEVEL: level, ENTRY: key}
            self._runs[key] = self._client.create_run(self._experiment_id, start_time=start, tags=tags, run_name=name)
        return self._runs[key]

    def _find_runs(self) -> None:
        """Note the runs of its keys, and delete doubled ones, which a server made too late to answer the request."""
        for work in self._works:
            for run in sorted(self._search(f"tags.`{ENTRY}` LIKE '{work}/%'"), key=lambda run: run.info.status not in COMPLETE):
                if self._runs.setdefault(run.data.tags[ENTRY], run).info.run_id != run.info.run_id:
                    self._client.delete_run(run.info.run_id)

    def _search(self, query: str) -> list[Any]:
        return mlflow_client.search_runs(self._client, self._experiment_id, query)

    def _log(self, entry: Log) -> None:
        if entry.of not in self._runs:  # a child that MLflow refused
            return
        run_id = self._id(entry.of)
        tags = dict(entry.tags)
        if NOTE in tags and (search := self._client.get_run(run_id).data.tags.get(SEARCH)):
            tags[NOTE] = f"{search_links(self._experiment_id, search)}\n\n{tags[NOTE]}"
        log_batch(self._client, run_id, entry.params, entry.metrics, tags, entry.step, entry.time)
        self._upload(run_id, entry, entry.folder)
        for name, view in entry.views.items():
            self._client.set_experiment_tag(self._experiment_id, f"{VIEW}{name}-{run_id}", view.replace(RUN_ID, run_id))
        for described in self._own_and_shared() if entry.views else ():
            links = search_links(self._experiment_id, run_id)
            log_batch(self._client, described, tags={SEARCH: run_id, NOTE: links})
        if WORK in tags and tags[WORK] not in self._works:
            self._works.append(tags[WORK])
            self._find_runs()

    def _write_child(self, entry: Child) -> None:
        """Write a candidate or cell; one that is complete already, of an interrupted run, moves below this run."""
        client, opening = self._client, self._opening
        above = {PARENT: self._id(OWN)} | ({} if opening.study else {NAME: opening.name})
        known = self._runs.get(entry.key)
        if known and known.info.status in COMPLETE:
            log_batch(client, known.info.run_id, tags=above)
            return
        tags = entry.tags | above | {PROCESS: opening.process}
        run_id = self._run(entry.key, entry.level, entry.name, entry.start, tags).info.run_id
        log_batch(client, run_id, opening.keys | entry.params, entry.metrics, tags, timestamp=entry.ended)
        for file, text in entry.texts.items():
            client.log_text(run_id, text, file)
        client.set_terminated(run_id, entry.end, entry.ended)

    def _close(self, entry: Close) -> None:
        client, opening, shared = self._client, self._opening, self._id(SHARED)
        self._find_runs()
        if entry.error:
            for run_id in self._own_and_shared():
                client.set_tag(run_id, ERROR, entry.error)
        client.set_terminated(self._id(OWN), entry.status, entry.time)
        if opening.stage:
            if entry.time >= pipeline_run.last_change(client.get_run(shared)):
                self._upload(shared, entry)
            client.set_tag(shared, f"stage.{opening.stage}", "ran" if entry.status == "FINISHED" else entry.status.lower())
            if not opening.in_flow:
                pipeline_run.end_pipeline_run(client, shared, entry.time)

    def _upload(self, run_id: str, entry: Entry, folder: str = "") -> None:
        for file in entry.files:
            path = self._outbox.folder / file
            if path.exists():  # copies are deleted once they are uploaded
                self._client.log_artifact(run_id, str(path), folder or None)

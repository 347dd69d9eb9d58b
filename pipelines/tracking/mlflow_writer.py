"""Writes a tracker's entries to MLflow.

Writing is idempotent: before a run or model is made, it is searched by the tag of its entry; parameters, points of curves,
tags and files replace themselves. So an entry can be written again when it is unknown whether it arrived.
"""

from typing import Any

from pipelines.tracking import mlflow_client, pipeline_run
from pipelines.tracking.experiment_page import run_address
from pipelines.tracking.model_writer import write_model
from pipelines.tracking.outbox import Outbox, one_at_a_time
from pipelines.tracking.tags import (
    CELL,
    CONTINUED_BY,
    CONTINUES,
    ENTRY,
    ERROR,
    LEVEL,
    NAME,
    NOTE,
    PARENT,
    PROCESS,
    PROJECT,
    STAGE,
    STUDY,
    WINNER,
)

RUN_ID = "{run_id}"
"""Stands in notes for the id of their run, which is not known when they are written."""


def _taken(name: str) -> str:
    """The key of a candidate's run, of an earlier run of the stage, that may be taken over."""
    return f"taken/{name}"


class MlflowWriter:
    """Writes the entries of an outbox to MLflow.

    Args:
        outbox: holds the entries and the ids of what is made for them.
        opening: its first entry.
        uri: address of the MLflow store.
        fresh: whether no entry can have been written by another process.
    """

    def __init__(self, outbox: Outbox, opening: dict, uri: str, fresh: bool = True):
        self.uri, self.run_id = uri, outbox.ids.get("run")
        self.outbox, self._opening = outbox, opening
        self._client: Any = None
        self._experiment_id = None
        self._found: dict[str, str] | None = {} if fresh else None
        self._doubtful = not fresh
        self._continued = False

    def write(self, entry: dict) -> None:
        """Write one entry; the ids of the runs that are made for it are stored in the outbox at once.

        Raises:
            Exception: any error of MLflow; see `refuses`.
        """
        if self._experiment_id is None:
            with self._alone():
                self._client = mlflow_client.connect(self.uri)
                if self.run_id:  # if it is not there, a part of the outbox is in another store
                    self._continued = CONTINUED_BY in self._client.get_run(self.run_id).data.tags
                self._experiment_id = mlflow_client.find_experiment(self._client, self._opening["experiment"], self.uri)
        if self.run_id is None:
            self._open()
        if entry["kind"] != "open":
            getattr(self, f"_write_{entry['kind']}")(entry)

    def address(self) -> str | None:
        """Address of the pipeline's or the study's run in MLflow's pages; None while the run is not known."""
        run_id = self.outbox.ids.get("pipeline") or self.outbox.ids.get("study")
        return run_address(self.uri, self._experiment_id, run_id) if run_id and self._experiment_id else None

    def refuses(self, error: Exception) -> bool:
        """Whether MLflow refuses an entry for good. Before the run exists, no entry is refused: all have to wait."""
        return self.run_id is not None and mlflow_client.is_refusal(error)

    def _open(self) -> None:
        opening = self._opening
        run_id = self._open_shared("study" if opening["level"] == "study" else "pipeline")
        if opening["level"] == "stage":
            stage, tags = opening["stage"], opening["tags"] | self._name()
            run_id = self._run("stage", "stage", f"{stage} · {opening['name']}", opening, run_id, tags | {STAGE: stage})
            self._log(run_id, params=opening["keys"])
        self.outbox.note_id("run", run_id)
        self.run_id = run_id

    def _open_shared(self, level: str) -> str:
        """Id of the run of the pipeline execution or of the study, which any of its processes finds by a tag or makes."""
        opening, is_study = self._opening, level == "study"
        key, value = (STUDY, opening["study"]) if is_study else (PROCESS, opening["execution"])
        with self._alone():
            query = f"tags.`{LEVEL}` = '{level}' and tags.`{key}` = '{value}'"
            found = self._client.search_runs([self._experiment_id], query, max_results=1)
            if is_study or not found:
                pipeline_run.end_abandoned_runs(self._client, self._experiment_id)
            if not found:
                tags = opening["tags"] | {PROCESS: opening["execution"], key: value}
                run_id = self._run(level, level, opening["name"], opening, None, tags)
            else:
                run_id = found[0].info.run_id
                if is_study or not opening["in_flow"]:
                    self._client.update_run(run_id, status="RUNNING")
                if is_study:
                    self._client.set_tag(run_id, PROCESS, opening["execution"])
                    if ERROR in found[0].data.tags:  # of an earlier attempt
                        self._client.delete_tag(run_id, ERROR)
        known = found[0].data.params if found else {}
        params = opening["keys"] | opening.get("params", {})
        if missing := {key: value for key, value in params.items() if key not in known}:
            self._log(run_id, params=missing)
        known_tags = found[0].data.tags if found else {ENTRY: self._tag(level)}
        if level == "pipeline" and known_tags.get(ENTRY) == self._tag(level) and CONTINUES not in known_tags:
            self._continue_last(run_id, params)
        if not found or opening["time"] >= pipeline_run.last_change(found[0]):  # else a later stage has uploaded newer ones
            self._upload(run_id, opening)
        self.outbox.note_id(level, run_id)
        return run_id

    def _name(self) -> dict[str, str]:
        """The tag that names the pipeline of a run below it."""
        return {NAME: self._opening["name"]}

    def _run(self, key: str, level: str, name: str, entry: dict, parent: str | None, tags: dict | None = None) -> str:
        """Id of the run for ``key`` of this outbox; it is made if there is none."""
        if key in self.outbox.ids:
            return self.outbox.ids[key]
        tag = self._tag(key)
        if self._found is None:
            self._found = {run.data.tags[ENTRY]: run.info.run_id for run in self._runs_of_this_outbox()}
        if tag not in self._found:
            tags = {LEVEL: level, PROCESS: self._opening["process"], ENTRY: tag, **(tags or {})}
            if parent:
                tags[PARENT] = parent
            found, self._found, doubtful, self._doubtful = self._found, None, self._doubtful, True
            start = entry.get("start", entry["time"])
            created = self._client.create_run(self._experiment_id, start_time=start, tags=tags, run_name=name)
            self._found, self._doubtful = found, doubtful  # it answered, so nothing was made unnoticed
            run_id = created.info.run_id
        else:
            run_id = self._found[tag]
        self.outbox.note_id(key, run_id)
        return run_id

    def _tag(self, key: str) -> str:
        """The value of ENTRY of the run that is made for ``key`` of this outbox."""
        return f"{self.outbox.name}/{key}"

    def _runs_of_this_outbox(self) -> list:
        return self._search(f"tags.`{ENTRY}` LIKE '{self._tag('%')}'")

    def _search(self, query: str) -> list:
        runs, token = [], None
        while True:
            page = self._client.search_runs([self._experiment_id], query, max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def _write_log(self, entry: dict) -> None:
        self._log(self._target(entry), entry["params"], entry["metrics"], entry["tags"], entry["step"], entry["time"])

    def _write_artifact(self, entry: dict) -> None:
        self._upload(self._target(entry), entry, entry["folder"])

    def _write_note(self, entry: dict) -> None:
        run_id = self._target(entry)
        self._client.set_tag(run_id, NOTE, entry["text"].replace(RUN_ID, run_id)[: mlflow_client.LONGEST_TAG])

    def _write_dataset(self, entry: dict) -> None:
        for run_id in dict.fromkeys((self.run_id, self._target({"pipeline": True}))):
            mlflow_client.log_dataset(self._client, run_id, entry["dataset"], entry["context"])

    def _target(self, entry: dict) -> str:
        """Id of the run that an entry is for: that of the whole pipeline, or the tracker's own."""
        return self.outbox.ids.get("pipeline", self.run_id) if entry.get("pipeline") else self.run_id

    def _write_continues(self, entry: dict) -> None:
        """Note the candidates of earlier runs, of which some may be taken over, and link this run and the last of them."""
        found = [run.info.run_id for outbox in entry["earlier"] for run in self._search(f"tags.`{ENTRY}` = '{outbox}/stage'")]
        for earlier in found:
            for candidate in self._search(f"tags.`{PARENT}` = '{earlier}' and tags.`{LEVEL}` = 'candidate'"):
                self.outbox.note_id(_taken(candidate.info.run_name), candidate.info.run_id)
        if found:
            self._link(found[-1], self.run_id, self._opening["stage"])

    def _continue_last(self, run_id: str, params: dict[str, str]) -> None:
        """Link an execution's run and the last before it in this project, if that did not end well and had these ``params``."""
        opening = self._opening
        query = f"tags.`{LEVEL}` = 'pipeline' and tags.`{PROJECT}` = '{opening['tags'].get(PROJECT)}'"
        others = [r for r in self._search(query) if r.info.run_id != run_id and r.info.start_time <= opening["time"]]
        last = max(others, key=lambda run: run.info.start_time, default=None)
        if last and last.info.status in ("FAILED", "KILLED") and params.items() <= last.data.params.items():
            self._link(last.info.run_id, run_id, "the pipeline")

    def _link(self, earlier: str, later: str, what: str) -> None:
        """Let two runs of ``what`` name each other, of which the later one goes on with the work of the other."""
        page = f"#/experiments/{self._experiment_id}/runs/"
        note = f"Interrupted, and continued by [another run of {what}]({page}{later})."
        self._log(earlier, tags={CONTINUED_BY: later, NOTE: note})
        note = f"Continues [an interrupted run of {what}]({page}{earlier})."
        self._log(later, tags={CONTINUES: earlier, NOTE: note})

    def _write_candidate(self, entry: dict) -> None:
        key = str(entry["n"])
        if self._continued:  # the run that continues this one has all its candidates
            return
        params, ended = entry["params"] | self._opening["keys"], entry.get("ended", entry["time"])
        taken = self.outbox.ids.get(_taken(entry["name"]))
        if taken and mlflow_client.stored_params(params).items() <= self._client.get_run(taken).data.params.items():
            self.outbox.note_id(key, taken)
            self._log(taken, tags={PARENT: self.run_id} | self._name())
        run_id = self._run(key, "candidate", entry["name"], entry, self.run_id, entry["tags"] | self._name())
        try:
            self._log(run_id, params, entry["metrics"], timestamp=ended)
            for file, text in entry["texts"].items():
                self._client.log_text(run_id, text, file)
        except Exception as error:
            if self.refuses(error):
                self._client.set_terminated(run_id, entry["end"], ended)
            raise
        self._client.set_terminated(run_id, entry["end"], ended)

    def _write_winner(self, entry: dict) -> None:
        won = set(map(str, entry["of"]))
        metrics = entry.get("metrics", {})
        for n in metrics | dict.fromkeys(won):
            if run_id := self.outbox.ids.get(n):  # else MLflow refused the candidate
                values, tags = ({"winner": 1.0}, {WINNER: "true"}) if n in won else ({}, {})
                self._log(run_id, metrics=metrics.get(n, {}) | values, tags=tags, timestamp=entry["time"])

    def _write_cell(self, entry: dict) -> None:
        with self._alone():
            query = f"tags.`{PARENT}` = '{self.run_id}' and tags.`{CELL}` = '{entry['label']}'"
            runs = self._search(query)
            if any(run.info.status in ("FINISHED", "FAILED") for run in runs):
                return
            if runs:
                run_id = runs[0].info.run_id
            else:
                run_id = self._run(str(entry["n"]), "cell", entry["name"], entry, self.run_id, {CELL: entry["label"]})
            params = entry["params"] | self._opening["keys"]
            self._log(run_id, params, entry["metrics"], entry["tags"], 0, entry["time"])
            self._client.set_terminated(run_id, entry["end"], entry["time"])

    def _write_model(self, entry: dict) -> None:
        pipeline = self._target({"pipeline": True})
        write_model(self._client, self._experiment_id, self.run_id, pipeline, entry, self.outbox)

    def _write_close(self, entry: dict) -> None:
        if self._doubtful:
            self._delete_doubles()
        if error := entry.get("error"):
            for run_id in dict.fromkeys((self.run_id, self._target({"pipeline": True}))):
                self._client.set_tag(run_id, ERROR, error)
        self._client.set_terminated(self.run_id, entry["status"], entry["time"])
        if pipeline_id := self.outbox.ids.get("pipeline") if self._opening["level"] == "stage" else None:
            if entry["time"] >= pipeline_run.last_change(self._client.get_run(pipeline_id)):
                self._upload(pipeline_id, entry)
            if not self._opening["in_flow"]:
                stage, status = self._opening["stage"], entry["status"]
                pipeline_run.end_pipeline_run(self._client, pipeline_id, stage, status, entry["time"])

    def _delete_doubles(self) -> None:
        """Delete runs that exist twice because the server's answer came too late."""
        for run in self._runs_of_this_outbox():
            key = run.data.tags[ENTRY].removeprefix(self._tag(""))
            if self.outbox.ids.get(key) not in (None, run.info.run_id):
                self._client.delete_run(run.info.run_id)

    def _upload(self, run_id: str, entry: dict, folder: str = "") -> None:
        for file in entry.get("files", []):
            path = self.outbox.folder / file
            if path.exists() or not path.is_relative_to(self.outbox.folder):  # copies are deleted once they are uploaded
                self._client.log_artifact(run_id, str(path), folder or None)

    def _alone(self):
        """Hold the lock under which processes search and make the runs that they share."""
        return one_at_a_time(self.outbox.folder.parent, "store")

    def _log(self, run_id, params=None, metrics=None, tags=None, step=0, timestamp=0) -> None:
        mlflow_client.log_batch(self._client, run_id, params or {}, metrics or {}, tags or {}, step, timestamp)

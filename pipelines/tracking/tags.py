"""Names of the tags of runs, models and experiments in MLflow."""

LEVEL = "gee.level"
"""Of a run: pipeline, stage or candidate; study or cell."""

STAGE = "gee.stage"
"""Of a stage's run: its name."""

NAME = "gee.pipeline"
"""Of stages and candidates: the name of their pipeline's run."""

BEST, WINNER = "gee.best", "gee.winner"
"""Of evolve's run: the name of the candidate that won; of candidates that won."""

ERROR = "gee.error"
"""Of a stage's run that failed, of its pipeline's, and of a cell's: the message."""

COMMIT = "gee.commit"
"""The git commit, see `pipeline_run.origin_tags`; of a cell that at which it was measured."""

WORK = "gee.work"
"""Of a stage's run: the work that a resumed run goes on with; of several with one value, the last has all candidates."""

PROJECT = "gee.project"
"""The machine, and a digest of the project's path: runs in the same folder have the same."""

PROCESS = "gee.process"
"""The process that a run belongs to; once that is gone, the run is abandoned."""

STUDY = "gee.study"
"""A key of the study, so that a restarted study continues in its own run."""

ENTRY = "gee.entry"
"""Of a run or model: the key that it was made for, by which a drain finds it again."""

TRACKED = "gee.tracked"
"""Of a registered version: time of its export in ms, so that a late drain does not replace a newer champion."""

DIGEST, METRICS = "gee.dataset_digest", "gee.metrics"
"""Of a registered version: what it was measured on, and the numbers as JSON."""

ALIAS, REASON = "gee.first_alias", "gee.reason"
"""Of a registered version: the alias that it got when it was registered, and why."""

PARENT = "mlflow.parentRunId"
"""MLflow's own: the run above this one."""

NOTE = "mlflow.note.content"
"""MLflow's own: the description of a run, an experiment or a logged model, as Markdown."""

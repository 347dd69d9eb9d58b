"""Names of the tags of runs, models and experiments in MLflow."""

# of runs
LEVEL = "gee.level"  # pipeline, stage, candidate or rescore; study or cell
STAGE = "gee.stage"  # the name of a stage's run
NAME = "gee.pipeline"  # of stages and candidates: the name of their pipeline's run
BEST, WINNER = "gee.best", "gee.winner"  # of evolve's run: the name of the candidate that won; of candidates that won
ERROR = "gee.error"  # the message of a stage's run that failed, of its pipeline's, and of a cell's
COMMIT = "gee.commit"  # the git commit, see `pipeline_run.origin_tags`; of a cell that at which it was measured
SEARCH = "gee.search"  # of a pipeline's run: the id of the evolve run whose candidates its description links to
ENTRY = "gee.entry"  # also of models: the key that it was made for, by which it is found again

# of registered versions
TRACKED = "gee.tracked"  # time of the export in ms, so that a late publication does not replace a newer champion
DIGEST, METRICS = "gee.dataset_digest", "gee.metrics"  # what it was measured on, and the numbers as JSON
BASE = "base"  # what it is an update of
ALIAS, REASON = "gee.first_alias", "gee.reason"  # the alias that it got when it was registered, and why

# MLflow's own
PARENT = "mlflow.parentRunId"  # the run above this one
NOTE = "mlflow.note.content"  # the description of a run, an experiment or a logged model, as Markdown

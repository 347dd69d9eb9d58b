"""Tracks the result of a whole pipeline: the row of its run in MLflow."""

import hashlib
from pathlib import Path

from pipelines.reporting.summary import Summary, summary_markdown
from pipelines.tracking.mlflow_writer import RUN_ID
from pipelines.tracking.tracker import Tracker

RESULT = "gee.result"
"""Tag of a pipeline's run: the `result_id` of its summary.json."""

FIGURES = "figures"
"""Folder of the figures among the run's artifacts."""

SHOWN = ("training_curve.png", "accuracy_over_noise.png")
"""The figures that stand in the note of the run."""


def result_id(summary: bytes) -> str:
    """What leads from a report to its pipeline's run in MLflow, from the bytes of summary.json.

    The page has to be the same in every run, so it cannot hold the run's own id.
    """
    return hashlib.sha256(summary).hexdigest()[:12]


def track_result(track: Tracker, summary: Summary, result: str, page: Path, summary_file: Path, pictures: list[Path]) -> None:
    """Log the summary's numbers, its `result_id`, the report and its figures on the pipeline's run, with a note for it."""
    files = {page: "", summary_file: ""} | dict.fromkeys(pictures, FIGURES)
    track.result(summary.numbers(), {RESULT: result}, note(summary, [path.name for path in pictures]), files)


def note(summary: Summary, names: list[str]) -> str:
    """Markdown: the summary as a table, and those of the figures in SHOWN that are among ``names``."""
    images = [f"![{name}](get-artifact?path={FIGURES}/{name}&run_uuid={RUN_ID})" for name in SHOWN if name in names]
    return "\n".join(
        [summary_markdown(summary), "", *images, "", "The report with all figures is among the artifacts: `index.html`."]
    )

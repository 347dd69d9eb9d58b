"""What a stage can track, and a tracker that tracks nothing."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipelines.tracking.entries import End, ExportedModel

if TYPE_CHECKING:  # loads torch
    from gee_core.data.meta import Meta

Values = Mapping[str, object]
Metrics = Mapping[str, float | None]


class Tracker(Protocol):
    """Where a stage's parameters, metrics and artifacts go."""

    def params(self, values: Values) -> None:
        """Log parameters; each key once per run."""

    def metrics(self, values: Metrics, step: int | None = None) -> None:
        """Log metrics, with ``step`` as points of curves. A tag names those that are not finite."""

    def tags(self, values: Values) -> None:
        """Set tags."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Upload a file in its present state into ``folder``."""

    def candidate(
        self, params: Values, metrics: Metrics, name: str, status: str, artifacts: dict[str, str], times: tuple[float, float]
    ) -> None:
        """Log a finished run below the stage's; it counts as failed unless ``status`` is ``ok``.

        ``artifacts`` maps file names to text. ``times``: its start and end in seconds since 1970.
        """

    def winner(self, names: Iterable[str], ranks: Mapping[str, dict[str, float]]) -> None:
        """Mark candidates that were logged before, under these names, as those that won; log metrics that rank all, by name."""

    def continues(self, folder: Path) -> None:
        """Note in ``folder``, from which this work is resumed if it is killed, under which name it is tracked.

        A candidate that an interrupted run of the same work has logged is not logged twice: it moves below this run.
        """

    def dataset(self, meta: "Meta", context: str) -> None:
        """Name the prepared images as input of the run and of its pipeline's; ``context``: `training` or `testing`."""

    def result(self, metrics: Metrics, tags: Values, note: str, files: Mapping[Path, str]) -> None:
        """Log what a whole pipeline arrived at, on the run of the pipeline.

        ``note``: its description, as Markdown, in which ``RUN_ID`` stands for the run's id. ``files`` maps paths to folders.
        """

    def address(self) -> str | None:
        """The page in MLflow of the run of the pipeline or study; None before `close`, in a stage, and while MLflow is away."""

    def model(self, model: ExportedModel) -> None:
        """Log an exported model, and its metrics on the run too; register it if it says so, as champion or challenger."""

    def close(self, status: End = "FINISHED", error: str = "") -> None:
        """End the run; a tag of it and of its pipeline's says why: ``error``.

        Waits until MLflow has everything, but not for a server that does not answer; warns of what is left. A stage of
        `gee run` or of a flow ends at once, since these wait at their own end.
        """


class NullTracker:
    """Tracks nothing."""

    def _nothing(self, *_args: object, **_kwargs: object) -> None:
        pass

    params = metrics = tags = artifact = candidate = winner = continues = dataset = result = address = model = close = _nothing

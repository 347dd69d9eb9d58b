"""Is told how the run of a study progresses."""

from pathlib import Path

from pipelines.studies.cell import Cell


class Watch:
    """Ignores what it is told; subclasses show it."""

    def planned(self, cells: list[Cell], missing: list[Cell], jobs: int | None) -> None:
        """All ``cells`` are checked, ``missing`` have no result yet; ``jobs`` run in parallel (None: one on each worker)."""

    def note(self, cell: Cell, note: str) -> None:
        """``cell`` is at the step ``note``."""

    def done(self, cell: Cell, result: dict) -> None:
        """``cell`` has a result."""

    def left_out(self, names: list[str]) -> None:
        """The tables and figures lack the metrics or rows ``names``, which no cell has."""

    def written(self, folder: Path) -> None:
        """``folder`` has the tables of the cells that have a result; others failed."""

    def tracked(self, address: str) -> None:
        """``address`` is the page of the study's run in MLflow."""

    def kept(self, cell: Cell, folder: Path) -> None:
        """``folder`` has the network of ``cell``."""

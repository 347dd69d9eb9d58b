"""Tracks a study in MLflow: one run for the study, and below it one run per cell."""

import time

from gee_core.storage.json_object import json_digest
from pipelines.runtime.settings import Settings
from pipelines.studies.cell import Cell, CellResult
from pipelines.tracking.folder import Run, finite_metrics, flattened, texts
from pipelines.tracking.pipeline_run import filter_keys
from pipelines.tracking.tags import COMMIT, ERROR
from pipelines.tracking.tracker import Tracker


def open_study_tracker(name: str, preset: str, cells: list[Cell]) -> "StudyTracker":
    """The tracker of a study with these cells. With `GEE_TRACKING=off` it tracks nothing."""
    if Settings.read().tracking == "off":
        return StudyTracker()
    study_key = json_digest({"study": name, "cells": sorted(cell.key for cell in cells)})
    return StudyTracker(None, {"study": name, "preset": preset}, files=[], study=study_key, name=f"study {name}")


class StudyTracker(Tracker):
    """Tracks a study in the same store as the stages."""

    def cell(self, cell: Cell, result: CellResult) -> None:
        """Add a run with the cell's labels, parameters and metrics below the study's, unless there is one of this commit.

        It lasts as long as the evolution and the training of the cell did, also where other cells share these. A label in a
        column with the name of a parameter, such as `network`, stands beside that one as `column.network`.
        """
        params = flattened(cell.params.model_dump()) | filter_keys(cell.params)
        labels = {f"column.{name}" if name in params else name: label for name, label in cell.columns.items()}
        metrics, tags = finite_metrics(result["metrics"])
        seconds = sum(metrics.get(f"{step}_seconds", 0.0) for step in ("evolve", "train"))
        label = json_digest({"key": cell.key, "columns": cell.columns, "commit": result["commit"]})
        now, status, commit = round(1000 * time.time()), result["status"][:500], result["commit"]
        tags |= {"status": status, "commit": commit or ""} | ({COMMIT: commit} if commit else {})
        run = Run(
            key="",
            level="cell",
            name=", ".join([*cell.columns.values(), f"seed {cell.params.base.seed}"]),
            params=texts(params | labels),
            tags=tags if status == "ok" else tags | {ERROR: status},
            metrics=metrics,
            start=now - round(1000 * seconds),
            time=now,
            status="FINISHED" if status == "ok" else "FAILED",
        )
        self.child(label, run)

"""Tracks a study in MLflow: one run for the study, and below it one run per cell."""

from gee_core.storage.checksummed_json import json_digest
from pipelines.studies.plan import Cell
from pipelines.tracking.tracker import MlflowTracker, NullTracker, tracking_is_off
from pipelines.tracking.values import finite_metrics, texts


def open_study_tracker(name: str, preset: str, cells: list[Cell]) -> "StudyTracker | NullStudyTracker":
    """The tracker of a study with these cells. `GEE_TRACKING=off` turns tracking off."""
    if tracking_is_off():
        return NullStudyTracker()
    study_key = json_digest({"study": name, "cells": sorted(cell.key for cell in cells)})
    keys = {"study": name, "preset": preset}
    return StudyTracker(None, keys, level="study", name=f"study {name}", study=study_key, files=[])


class NullStudyTracker(NullTracker):
    """Tracks nothing."""

    cell = NullTracker._nothing


class StudyTracker(MlflowTracker):
    """Tracks a study in the same store as the stages."""

    def cell(self, cell: Cell, result: dict) -> None:
        """Add a run with the cell's labels, parameters and metrics below the study's, unless there is one of this commit."""
        sections = cell.params.model_dump(include={"base", "network", "prepare", "evolve", "train"})
        params = {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}
        metrics, tags = finite_metrics(result["metrics"])
        self._add(
            "cell",
            label=json_digest({"key": cell.key, "columns": cell.columns, "commit": result["commit"]}),
            name=", ".join([*cell.columns.values(), f"seed {cell.params.base.seed}"]),
            params=texts(params | cell.columns | {"seed": cell.params.base.seed}),
            metrics=metrics,
            tags=tags | {"status": result["status"][:500], "commit": result["commit"] or ""},
            end="FINISHED" if result["status"] == "ok" else "FAILED",
        )

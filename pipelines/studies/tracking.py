"""A study in MLflow: one run for the study, and below it one run per cell."""

import time

from gee_core.storage.json_object import json_digest
from pipelines.runtime.run_files import Child, as_texts
from pipelines.runtime.run_folder import RunFolder
from pipelines.studies.cell import Cell, CellResult
from pipelines.tracking.pipeline_run import filter_keys, flattened
from pipelines.tracking.tags import COMMIT, ERROR
from pipelines.tracking.tracker import Execution, open_study


def open_study_run(name: str, preset: str, cells: list[Cell]) -> Execution:
    """The run of a study with these cells."""
    key = json_digest({"study": name, "cells": sorted(cell.key for cell in cells)})
    return open_study(key, f"study {name}", {"study": name, "preset": preset})


def cell_row(cell: Cell, result: CellResult, study: RunFolder) -> Child:
    """A run with the cell's labels, parameters and metrics below the study's, one for each commit.

    It lasts as long as the evolution and the training of the cell did, also where other cells share these. A label in a column
    with the name of a parameter, such as `network`, stands beside that one as `column.network`.
    """
    params = flattened(cell.params.model_dump()) | filter_keys(cell.params)
    labels = {f"column.{name}" if name in params else name: label for name, label in cell.columns.items()}
    seconds = sum(result["metrics"].get(f"{step}_seconds", 0.0) for step in ("evolve", "train"))
    now, status, commit = round(1000 * time.time()), result["status"][:500], result["commit"]
    tags = {"status": status, "commit": commit or ""} | ({COMMIT: commit} if commit else {})
    return Child(
        child=json_digest({"key": cell.key, "columns": cell.columns, "commit": result["commit"]}),
        level="cell",
        name=", ".join([*cell.columns.values(), f"seed {cell.params.base.seed}"]),
        params=study.record.params | as_texts(params | labels),
        tags=tags if status == "ok" else tags | {ERROR: status},
        metrics=result["metrics"],
        start=now - round(1000 * seconds),
        time=now,
        status="FINISHED" if status == "ok" else "FAILED",
    )

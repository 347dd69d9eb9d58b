"""Reads the tables that the stages of a run wrote."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from gee_core.errors import InputError
from gee_core.storage.json_object import read_json_object
from pipelines.inputs.measured import reading


class Tables(NamedTuple):
    """The tables of a run; in the confusion table every cell is a string, even "NA", "1" and ""."""

    candidates: pd.DataFrame
    history: pd.DataFrame
    layers: pd.DataFrame
    confusion: pd.DataFrame
    noise: pd.DataFrame
    hardware: pd.DataFrame
    """No rows where `robustness.hardware` is null."""


def read_tables(reports: Path) -> Tables:
    """The tables of the run whose files lie under ``reports``; raises ``InputError``."""
    energies = ("input_rate", "energy_mj", "decode_macs", "decode_energy_mj", "output_rate")
    text: dict[str, Any] = {"dtype": str, "keep_default_na": False}
    return Tables(
        candidates=_table(reports / "evolve/candidates.csv", "generation", "index", "rescored", "winner"),
        history=_table(reports / "train/history.csv", "epoch", "train_loss", "train_accuracy"),
        layers=_table(reports / "evaluate/layers.csv", "layer", "kind", *energies),
        confusion=_table(reports / "evaluate/confusion.csv", "actual", "predicted", **text),
        noise=_table(reports / "robustness/noise.csv", "r", "seed", "accuracy"),
        hardware=_table(reports / "robustness/hardware.csv", "domain", "strength", "draw", "accuracy"),
    )


def _table(path: Path, *columns: str, **options: Any) -> pd.DataFrame:
    with reading(path):
        found = pd.read_csv(path, **options)
        if missing := [column for column in columns if column not in found]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return found


def read_json(path: Path, *keys: str, remedy: str) -> dict[str, Any]:
    """A JSON object that must hold ``keys``; raises ``InputError``."""
    with reading(path, remedy):
        values = read_json_object(path)
    if missing := [key for key in keys if values.get(key) is None]:
        raise InputError(f"{path}: {', '.join(missing)} missing", f"delete the file and {remedy}")
    return values

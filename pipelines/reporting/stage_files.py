"""Reads the tables that the stages of a run wrote."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from gee_core.errors import InputError
from gee_core.storage.json_object import read_json_object


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
    """The tables of the run whose files lie under ``reports``.

    Raises:
        InputError: a file is missing, is not CSV, or lacks a column or numbers that every run has.
    """
    energies = ("input_rate", "energy_mj", "decode_macs", "decode_energy_mj", "output_rate")
    return Tables(
        candidates=_table(reports / "evolve/candidates.csv", ("generation", "index", "rescored", "winner")),
        history=_table(reports / "train/history.csv", (), ("epoch", "train_loss", "train_accuracy")),
        layers=_table(reports / "evaluate/layers.csv", ("layer", "kind"), energies),
        confusion=_table(reports / "evaluate/confusion.csv", ("actual", "predicted"), dtype=str, keep_default_na=False),
        noise=_table(reports / "robustness/noise.csv", (), ("r", "seed", "accuracy")),
        hardware=_table(reports / "robustness/hardware.csv", ("domain",), ("strength", "draw", "accuracy")),
    )


def _table(path: Path, texts: tuple[str, ...] = (), numbers: tuple[str, ...] = (), **options: Any) -> pd.DataFrame:
    with reading(path, "CSV"):
        found = pd.read_csv(path, **options)
        if missing := [column for column in texts + numbers if column not in found]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        if wrong := [column for column in numbers if len(found) and not pd.api.types.is_numeric_dtype(found[column])]:
            raise ValueError(f"{', '.join(wrong)}: not numbers")
        return found


@contextmanager
def reading(path: Path, form: str, remedy: str = "run `dvc repro`") -> Iterator[None]:
    """Turn errors of the body, which reads another stage's file, into an ``InputError`` with a ``remedy`` for damage."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: not found", "run `dvc repro`, which makes it") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as {form} ({reason})", f"delete it and {remedy}") from None


def read_json(path: Path, *keys: str, remedy: str) -> dict[str, Any]:
    """A JSON object that must hold ``keys``.

    Raises:
        InputError: it is missing, is not JSON, or lacks a key.
    """
    with reading(path, "JSON", remedy):
        values = read_json_object(path)
    if missing := [key for key in keys if values.get(key) is None]:
        raise InputError(f"{path}: {', '.join(missing)} missing", f"delete the file and {remedy}")
    return values

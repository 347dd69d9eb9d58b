"""What pages are made of: the templates' environment, and the stages' tables."""

from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from gee_core.config.datasets import DATASETS
from pipelines.reporting.summary import energy, number, percent, reading

TEMPLATES = Path(__file__).parent / "templates"
MLFLOW = "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&searchFilter="
"""The runs of the first experiment of the project's own mlflow.db, in its view for trained models; a quoted filter follows."""
TITLES = {name: known.title for name, known in DATASETS.items()} | {"imagenet": "ImageNet"}


def environment(*folders: Path) -> jinja2.Environment:
    """The environment of the templates here and in ``folders``; values are escaped unless they are marked as our own SVG."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"percent": percent, "energy": energy, "number": number}
    return env


def unescaped(svgs: dict[str, str]) -> dict[str, Markup]:
    """Our own SVG by name, marked as what templates do not escape."""
    return {name: Markup(svg) for name, svg in svgs.items()}


def read_tables(reports: Path) -> dict[str, pd.DataFrame]:
    """The tables that every run has, by name; in the confusion table every cell is a string, even "NA", "1" and "".

    Raises:
        InputError: a file is missing, is not CSV, or lacks a column or numbers that every run has.
    """

    return {
        "candidates": _table(reports, "evolve/candidates.csv", ("generation", "index", "rescored", "winner")),
        "confusion": _table(reports, "evaluate/confusion.csv", ("actual", "predicted"), dtype=str, keep_default_na=False),
        "history": _table(reports, "train/history.csv", (), ("epoch", "train_loss", "train_accuracy")),
        "layers": _table(
            reports,
            "evaluate/layers.csv",
            ("layer", "kind"),
            ("input_rate", "energy_mj", "decode_macs", "decode_energy_mj", "output_rate"),
        ),
        "noise": _table(reports, "robustness/noise.csv", (), ("r", "seed", "accuracy")),
    }


def read_hardware(reports: Path) -> pd.DataFrame:
    """The accuracies under the defects of hardware; no rows where `robustness.hardware` is null.

    Raises:
        InputError: as for `read_tables`.
    """
    return _table(reports, "robustness/hardware.csv", ("domain",), ("strength", "draw", "accuracy"))


def _table(reports: Path, name: str, texts: tuple[str, ...] = (), numbers: tuple[str, ...] = (), **options) -> pd.DataFrame:
    with reading(reports / name, "CSV"):
        found = pd.read_csv(reports / name, **options)
        if missing := [column for column in texts + numbers if column not in found]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        if wrong := [column for column in numbers if len(found) and not pd.api.types.is_numeric_dtype(found[column])]:
            raise ValueError(f"{', '.join(wrong)}: not numbers")
        return found

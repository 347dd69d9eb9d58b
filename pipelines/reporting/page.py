"""What pages are made of: the templates' environment, and the stages' tables."""

from pathlib import Path
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup

from pipelines.reporting.summary import energy, number, percent, reading

TEMPLATES = Path(__file__).parent / "templates"
MLFLOW = "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&searchFilter="
"""The runs of the first experiment of the project's own mlflow.db, in MLflow's view for trained models."""
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet", "fashion_mnist": "Fashion-MNIST"}


def mlflow_link(query: str) -> str:
    """The address at which MLflow's page shows the runs that ``query`` finds."""
    return MLFLOW + quote(query)


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
    """The stages' tables by name; in the confusion table every cell is a string, even "NA", "1" and "".

    Raises:
        InputError: a file is missing, is not CSV, or lacks a column or numbers that every run has.
    """

    def table(name: str, texts: tuple[str, ...] = (), numbers: tuple[str, ...] = (), **options) -> pd.DataFrame:
        with reading(reports / name, "CSV"):
            found = pd.read_csv(reports / name, **options)
            if missing := [column for column in texts + numbers if column not in found]:
                raise ValueError(f"it lacks {', '.join(missing)}")
            if wrong := [column for column in numbers if not pd.api.types.is_numeric_dtype(found[column])]:
                raise ValueError(f"{', '.join(wrong)}: not numbers")
            return found

    return {
        "candidates": table("evolve/candidates.csv", ("generation", "index", "rescored", "winner")),
        "confusion": table("evaluate/confusion.csv", ("actual", "predicted"), dtype=str, keep_default_na=False),
        "history": table("train/history.csv", (), ("epoch", "train_loss", "train_accuracy")),
        "layers": table(
            "evaluate/layers.csv",
            ("layer", "kind"),
            ("input_rate", "energy_mj", "decode_macs", "decode_energy_mj", "output_rate"),
        ),
        "noise": table("robustness/noise.csv", (), ("r", "seed", "accuracy")),
    }

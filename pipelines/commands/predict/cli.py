"""The command `gee predict`. Heavy imports wait until it runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.json_output import json_alone
from pipelines.project.paths import ONNX

if TYPE_CHECKING:
    from pipelines.commands.predict.classify import Prediction

SURE = 0.5
"""A best probability below it is marked `not sure`."""

PLACES = "models:/NAME@champion, models:/NAME/3, runs:/RUN/NAME"


def predict(
    context: typer.Context,
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders with images at any depth.")],
    model: Annotated[
        str | None,
        typer.Option(
            help=f"A folder, ONNX file or file of genes of an export, or a model of MLflow: {PLACES} "
            f"(default: {ONNX.parent} of the project)."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name for each image, the most probable first.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list: file, class, probability, top.")] = False,
) -> None:
    """Classify images with the exported network.

    A line per image: its class and the probability that the network gives it.
    Below 50 % the line says `not sure`. The network knows its own classes only.
    Images may have any size; they are converted as in training.
    If some cannot be read, these are named, and nothing else is printed.

    gee predict models/export/example.png
    gee predict photos --top 5 --json
    gee predict photos --model models:/gee-digits-cifarnet-g28@champion
    """
    from pipelines.commands.predict.classify import predict as predict_files
    from pipelines.commands.predict.images import find_images
    from pipelines.commands.predict.model import IN_MLFLOW, open_model

    here: Path = context.obj  # the folder in which the command was called; it runs in the project folder
    files = find_images(here, images)
    if model is None:
        source: Path | str = ONNX.parent
    else:
        source = model if model.startswith(IN_MLFLOW) else here / model
    with json_alone(as_json):
        found = predict_files(here, files, open_model(source), top)
    if as_json:
        print(_as_json(found))
        return
    for prediction in found:
        print(_line(prediction))


def _line(prediction: "Prediction") -> str:
    from pipelines.commands.predict.images import shown

    doubt = ", not sure" if prediction.top[0][1] < SURE else ""
    best, *others = [(shown(name), f"{100 * p:.1f} %") for name, p in prediction.top]
    return f"{shown(prediction.file)}: {best[0]} ({best[1]}{doubt}){''.join(f', {name} ({p})' for name, p in others)}"


def _as_json(found: "list[Prediction]") -> str:
    """A list with a line per image."""
    rows = []
    for prediction in found:
        top = [{"class": name, "probability": p} for name, p in prediction.top]
        rows.append(json.dumps({"file": str(prediction.file), **top[0], "top": top}))
    return "[" + ",\n ".join(rows) + "]"

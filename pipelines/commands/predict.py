"""The command `gee predict`. Heavy imports wait until it runs. For an ONNX file it loads no torch, and answers in a second."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands import run_networks
from pipelines.project.paths import ONNX

SURE = 0.5
"""A best probability below it is marked `not sure`."""


def predict(
    context: typer.Context,
    images: Annotated[list[Path], typer.Argument(help="Image files, recordings, or folders that contain them at any depth.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="A folder, ONNX file or file of genes of an export, or a model of MLflow: models:/NAME@champion, "
            f"models:/NAME/3, runs:/RUN/NAME (default: {ONNX.parent} of the project)."
        ),
    ] = None,
    pretrained: Annotated[str | None, typer.Option(help="A network that comes with GEE: see `gee pretrained`.")] = None,
    update: Annotated[
        Path | None, typer.Option(help="A network.update of an export. Needs --pretrained, or --model with a file of genes.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Name this many classes for each image, the most probable first.")] = 1,
    exit: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Stop at the first step that gives a class this probability. Needs a file of genes."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list: file, class, probability, top, steps.")] = False,
) -> None:
    """Classify images with the exported network, or with a network that comes with GEE.

    Each line names an image, its class and the probability that the network gives it.
    Below 50 % the line says `not sure`. The network knows only its own classes.
    Images may have any size. They are converted as in training.
    A note warns when images differ from the training images in colour, size or shape.
    Files that cannot be read are named and left out. The exit code is then 1, or 2 if no image was read.
    With --exit, the network stops early on the images of which it is sure.

    gee predict models/export/example.png
    gee predict photos --top 5 --json
    gee predict photo.png --pretrained cifarnet.cifar10 --top 5
    gee predict photo.png --pretrained cifarnet.cifar10 --update kitchen.update
    gee predict recording.bin
    gee predict photos --model models:/gee-digits-cifarnet@champion
    """
    from gee_core.data.folders import endings_of
    from gee_core.errors import InputError, printable
    from gee_core.pretrained.files import pretrained_file
    from pipelines.commands.prediction import IN_MLFLOW, find_images, in_lines, open_model
    from pipelines.commands.prediction import predict as predict_files
    from pipelines.runtime.input_errors import print_errors

    here: Path = context.obj  # the folder in which the command was called; it runs in the project folder
    source: Path | str = ONNX.parent
    if model is not None and pretrained is not None:
        raise InputError(f"--model {model} and --pretrained {pretrained}: these are two networks", "leave out one of the two")
    if pretrained is not None:
        genes = pretrained_file(pretrained)
        source = genes if exit is not None or update is not None else genes.with_suffix(".onnx")  # which needs no torch
    elif model is not None:
        source = model if model.startswith(IN_MLFLOW) else here / model
    problems: list[InputError] = []
    with run_networks(as_json):
        opened = open_model(source, exit, None if update is None else here / update)
        files = find_images(here, images, endings_of(opened.card.events))
        predictions = predict_files(here, files, opened, top, problems)
    if as_json:
        print("[" + ",\n ".join(json.dumps(prediction.as_json()) for prediction in predictions) + "]")
    for file, top_classes, steps, _ in () if as_json else predictions:
        doubt = ", not sure" if top_classes[0][1] < SURE else ""
        after = f", {steps} step{'s' if steps > 1 else ''}" if steps else ""
        best, *others = [(printable(name), f"{100 * p:.1f} %") for name, p in top_classes]
        print(f"{printable(str(file))}: {best[0]} ({best[1]}{doubt}{after}){''.join(f', {name} ({p})' for name, p in others)}")
    if pretrained is not None and predictions:
        names = ", ".join(map(printable, opened.card.class_names))
        print(f"gee: note: {pretrained} knows {len(opened.card.class_names)} classes only: {names}", file=sys.stderr)
    if unlike := [f"{printable(str(each.file))} ({each.difference})" for each in predictions if each.difference]:
        card = opened.card
        learnt = f"{'grey images' if card.in_channels == 1 else 'images in colour'} of {card.image_size} pixels a side"
        more = f" and {len(unlike) - 1} more files" if unlike[1:] else ""
        print(f"gee: note: the network was trained on {learnt}, unlike {unlike[0]}{more}", file=sys.stderr)
    if problems:
        print_errors("gee", in_lines(problems))
        raise typer.Exit(1)  # 2 is for a command that did nothing


def pretrained(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list of the cards.")] = False,
) -> None:
    """List the trained networks that come with GEE, and say which have a NIR graph. `gee predict --pretrained NAME` uses one.

    gee pretrained
    """
    from rich.console import Console
    from rich.table import Column, Table

    from gee_core.pretrained.files import has_nir_graph, list_pretrained, pretrained_card, pretrained_file

    cards = list(map(pretrained_card, list_pretrained()))
    if as_json:
        print(json.dumps([card.model_dump(mode="json") for card in cards]))
        return
    name, accuracy = (Column(text, no_wrap=True) for text in ("name", "accuracy"))
    table = Table(name, "classes", "input", "T", accuracy, "parameters", "µJ", "kB", "NIR", box=None, padding=(0, 1, 0, 0))
    for card in cards:
        kilobytes, nir = pretrained_file(card.name).stat().st_size / 1000, "yes" if has_nir_graph(card.name) else "no"
        numbers = [str(len(card.class_names)), f"{card.in_channels} x {card.image_size}²", str(card.T)]
        numbers += [f"{card.accuracy:.1%} ± {card.standard_error:.1%}", f"{card.parameters:,}"]
        table.add_row(card.name, *numbers, f"{card.energy_uj:.3g}", f"{kilobytes:.0f}", nir)
    Console().print(table)

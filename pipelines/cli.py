"""The command `gee`. Heavy imports wait until a command needs them, so that `gee --help` is quick."""

import contextlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.commands import run_networks
from pipelines.commands.data import data
from pipelines.commands.energy import energy
from pipelines.commands.predict import predict, pretrained
from pipelines.commands.preset import preset
from pipelines.commands.run import run, summary
from pipelines.commands.status import gc, status
from pipelines.commands.ui import ui
from pipelines.interruption import print_interruption
from pipelines.orchestration.cli import flow
from pipelines.project.paths import find_project, python_first
from pipelines.studies.cli import study
from pipelines.tracking.cli import track

RUN, INSPECT, LIBRARY = "Run", "Inspect", "Library"
"""The groups of commands."""

console = Console(markup=False)  # names of files and classes may contain brackets


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from gee_core import __version__

        print(f"gee {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("-C", metavar="DIR", exists=True, file_okay=False, help="Work in this folder.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", help="Show no progress.")] = False,
    verbose: Annotated[bool, typer.Option("-v", help="Show the logs of GEE and DVC.")] = False,
) -> None:
    """Evolve, train and measure genetically encoded spiking networks. Start with `gee run`."""
    from gee_core.errors import InputError

    if quiet:
        os.environ["GEE_PROGRESS"] = "off"
    if verbose:
        logging.basicConfig(level=logging.INFO)
    try:
        os.chdir(folder or ".")
        here, project = Path.cwd(), find_project()
    except FileNotFoundError:
        raise InputError("the current folder was deleted", "go to another, or name one by -C DIR") from None
    if not here.is_relative_to(project):
        _say_where(here, project, str(context.invoked_subcommand))
    _check_code(project)
    os.chdir(project)
    os.environ["PATH"] = python_first()
    context.obj = here


def count(
    network: Annotated[str, typer.Option(help="A network of gee_core/zoo.py such as resnet19, or networks.MODULE:NAME.")],
    genes: Annotated[int | None, typer.Option(min=1, max=10_000, help="Number of genes g (default: plain network).")] = None,
    classes: Annotated[int, typer.Option(min=1, max=10**6, help="Number of classes.")] = 10,
    channels: Annotated[int, typer.Option(min=1, max=10_000, help="Channels of the images.")] = 3,
    size: Annotated[int | None, typer.Option(min=1, max=10_000, help="Pixels per side (default: 32, resnet34: 224).")] = None,
    width: Annotated[float, typer.Option(max=16, help="Multiplies every channel count.")] = 1.0,
    block: Annotated[str | None, typer.Option(help="Residual blocks of a ResNet, pre or post (default: pre).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Count the parameters of a network, encoded and plain.

    gee count --network resnet19 --genes 100
    gee count --network networks.my_vgg:SpikingVGG --genes 28 --json
    """
    import torch

    from gee_core.config.network import default_block, genes_and_weights, is_own
    from gee_core.errors import InputError
    from gee_core.model.network import build_network, count_parameters
    from pipelines.inputs.own_network import register_own_network

    size = size or (224 if network == "resnet34" else 32)
    with run_networks(as_json):
        register_own_network(network)
        try:
            with contextlib.nullcontext() if is_own(network) else torch.device("meta"):  # which takes no time
                net = build_network(network, classes, channels, size, width=width, block=block)
                in_genes, in_weights = (0, 0) if genes is None else genes_and_weights(network, width, genes)
        except ValueError as error:
            raise InputError(str(error)) from None
    plain = count_parameters(net)
    parameters = plain + in_genes - in_weights  # no gene is drawn, which would take time and memory
    result = {
        "network": network,
        "block": block or default_block(network),
        "n_genes": genes,
        "num_classes": classes,
        "in_channels": channels,
        "image_size": size,
        "width": width,
        "parameters": parameters,
        "plain_parameters": plain,
        "ratio": round(parameters / plain, 4),
    }
    if as_json:
        print(json.dumps(result))
    elif genes is None:
        console.print(f"{network}, plain: {plain:,} parameters")
    else:
        console.print(f"{network}, g = {genes}: {parameters:,} of {plain:,} parameters ({parameters / plain:.1%})")
    if parameters > plain:
        print("gee: warning: larger than the plain network: take fewer --genes, or a greater --width", file=sys.stderr)


# In the order of `gee --help`.
app.command("run", short_help="Run the stages that changed, or an experiment.", rich_help_panel=RUN)(run)
app.add_typer(preset, name="preset", rich_help_panel=RUN)
app.add_typer(study, name="study", rich_help_panel=RUN)
app.add_typer(flow, name="flow", rich_help_panel=RUN)
app.command("status", rich_help_panel=INSPECT)(status)
app.command("summary", rich_help_panel=INSPECT)(summary)
app.command("ui", short_help="Serve MLflow and open the table of all runs.", rich_help_panel=INSPECT)(ui)
app.add_typer(data, name="data", rich_help_panel=INSPECT)
app.add_typer(track, name="track", rich_help_panel=INSPECT)
app.command("gc", short_help="List old folders that you can delete.", rich_help_panel=INSPECT)(gc)
app.command("predict", short_help="Classify images with a trained network.", rich_help_panel=LIBRARY)(predict)
app.command("pretrained", short_help="List the trained networks that come with GEE.", rich_help_panel=LIBRARY)(pretrained)
app.command("energy", short_help="Count operations, spikes and energy of a network.", rich_help_panel=LIBRARY)(energy)
app.command("count", rich_help_panel=LIBRARY)(count)


def main() -> None:
    """Run a command in the project folder. Bad input results in one message and exit code 2."""
    from pipelines.runtime.input_errors import print_anything, report_input_errors

    print_anything()
    with report_input_errors("gee"):
        try:
            app()
        except SystemExit as end:
            if end.code in (130, 143):  # Ctrl-C, SIGTERM
                print_interruption("gee")
            raise


def _check_code(project: Path) -> None:
    """Check that this process runs the code in ``project``, if that has GEE's code, as DVC's stages do.

    A `pip install .` makes another copy, whose results would count as the project's.
    """
    from gee_core.errors import InputError

    used = Path(__file__)
    if (project / "pipelines/cli.py").is_file() and not used.samefile(project / "pipelines/cli.py"):
        problem = f"`gee` is installed from {used.parents[1]}, and this project has code of its own in {project}"
        install = '`python -m pip install -e ".[evolve,onnx]" -e ./pipelines`'
        raise InputError(problem, f"there, {install} installs that; after `make`, with .venv/bin/python")


def _say_where(here: Path, project: Path, command: str) -> None:
    """Say which project a command works in that was given in ``here``, a folder of no project. `gee run` and the like stop."""
    from gee_core.errors import InputError

    options = set(sys.argv)
    if options & {"--help", "-h"}:
        return
    if command in ("flow", "preset", "run", "study"):
        raise InputError(f"{here}: in no project of GEE (a folder with dvc.yaml)", f"go to a clone, such as {project}")
    of_project = command == "predict" and not options & {"--pretrained", "--model"}
    if of_project or command in ("gc", "status", "summary", "track", "ui"):
        print(f"gee: no project here, working in {project}", file=sys.stderr)


if __name__ == "__main__":
    main()

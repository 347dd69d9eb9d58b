"""The command `gee`. Heavy imports wait until a command needs them, so that `gee --help` is quick."""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.commands import json_alone
from pipelines.commands.data import data
from pipelines.commands.energy import energy
from pipelines.commands.gc import gc
from pipelines.commands.predict import predict, pretrained
from pipelines.commands.preset import preset
from pipelines.interruption import interrupted
from pipelines.orchestration.cli import flow
from pipelines.project.paths import PAGE, SUMMARY, find_project, python_first
from pipelines.studies.cli import study
from pipelines.tracking.cli import track

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.add_typer(data, name="data")
app.add_typer(flow, name="flow")
app.add_typer(study, name="study")
app.add_typer(track, name="track")
console = Console(markup=False)  # names of files and classes may contain brackets


def _print_version(wanted: bool) -> None:
    if wanted:
        from gee_core import __version__

        print(f"gee {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Genetically encoded spiking networks: evolve, train, measure, export. Begin with `gee run`."""


@app.command()
def run(
    force: Annotated[bool, typer.Option("--force", "-f", help="Run every stage, also unchanged ones.")] = False,
    member: Annotated[int | None, typer.Option(min=1, help="Train this member of the front (writes evolve.choose).")] = None,
) -> None:
    """Run the pipeline on params.yaml (`dvc repro`: what changed, and nothing else) and print the summary.

    Another run in this project is waited for, also a `dvc repro`.
    """
    from pipelines.check import check_inputs
    from pipelines.inputs.genotype_file import choose_member
    from pipelines.orchestration.ending import print_runs
    from pipelines.orchestration.flow_lock import DVC_ERROR, check_dvc_files, flow_lock, say, wait_for_other_dvc
    from pipelines.project.git import check_for_dvc
    from pipelines.project.params import load_params
    from pipelines.reporting.summary import read_summary
    from pipelines.runtime.process_tree import exit_on_sigterm, run_in_foreground
    from pipelines.tracking.mlflow_client import is_local, tracking_uri
    from pipelines.tracking.tracker import tracked_execution

    if member is not None:
        choose_member(member)
    params = load_params()
    check_inputs(params)
    before = None  # where the numbers are from that came with the clone
    with contextlib.suppress(OSError, ValueError):
        before = read_summary(SUMMARY).machine
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", *(["--force"] if force else [])]
    exit_on_sigterm()
    with flow_lock(Path(), say), tracked_execution(params) as addresses:
        check_for_dvc(Path())
        check_dvc_files(Path())
        wait_for_other_dvc(Path(), say)
        while (code := run_in_foreground(command)) == DVC_ERROR and wait_for_other_dvc(Path(), say):
            pass  # DVC may have failed because the other one began a stage in between
        if code:
            raise typer.Exit(code)  # in here, so that the run in MLflow fails too
    summary()
    if before and before != (now := read_summary(SUMMARY).machine):
        print(f"\nNumbers may differ from the last ones, made on {before}: this is {now}")
    print(f"\nReport   {PAGE.resolve().as_uri()}")
    if addresses and not is_local(tracking_uri()):
        print(f"Runs     {addresses[0]}")
    else:
        print_runs(*addresses)
    print("Next     dvc exp run --temp -S evolve.n_generations=5\n         gee preset cifar10-small\n         gee --help")


@app.command()
def count(
    network: Annotated[str, typer.Option(help="An entry of gee_core/zoo.py such as resnet19, or networks.MODULE:NAME.")],
    genes: Annotated[int | None, typer.Option(min=1, max=10_000, help="Number of genes g; without, the plain network.")] = None,
    classes: Annotated[int, typer.Option(min=1, max=10**6, help="Number of classes.")] = 10,
    channels: Annotated[int, typer.Option(min=1, max=10_000, help="Channels of the images (the pipeline's have 1 or 3).")] = 3,
    size: Annotated[int | None, typer.Option(min=1, max=10_000, help="Side of images (default: 32, resnet34: 224).")] = None,
    width: Annotated[float, typer.Option(max=16, help="Multiplies every channel count.")] = 1.0,
    block: Annotated[str | None, typer.Option(help="Residual blocks of a ResNet, pre or post (default: pre).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line.")] = False,
) -> None:
    """Count the parameters of a network, encoded and plain."""
    import torch

    from gee_core.config.known_networks import is_own
    from gee_core.errors import InputError
    from gee_core.model.network import build_network, count_parameters, count_plain_parameters
    from gee_core.zoo import NETWORKS
    from pipelines.inputs.own_network import register_own_network

    if network not in NETWORKS and not is_own(network):
        known = f"choose one of {', '.join(NETWORKS)}, or write networks.MODULE:NAME for the class NAME in networks/MODULE.py"
        raise InputError(f"unknown network {network!r}", known)
    with json_alone(as_json):
        register_own_network(network)
    if size is None:
        size = 224 if network == "resnet34" else 32
    try:
        with json_alone(as_json), contextlib.nullcontext() if is_own(network) else torch.device("meta"):  # which takes no time
            plain = count_plain_parameters(network, classes, channels, size, width=width, block=block)
            net = build_network(network, classes, channels, size, genes, width, block=block)
    except ValueError as error:
        raise InputError(str(error)) from None
    parameters = count_parameters(net)
    result = {
        "network": network,
        "block": net.built_with["block"],
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


@app.command()
def summary() -> None:
    """Print the summary of the last run."""
    from pipelines.inputs.measured import reading
    from pipelines.reporting.summary import format_summary, read_summary

    with reading(SUMMARY, "run `dvc repro`, or `dvc pull`"):
        table = format_summary(read_summary(SUMMARY))
    console.print(table)


@app.command()
def encode(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="A network.safetensors trained with network.n_genes = null.")],
    genes: Annotated[int, typer.Option(min=1, help="Number of genes g.")],
    out: Annotated[Path, typer.Option(help="The encoded checkpoint to write, a new file; its .json is written beside it.")],
) -> None:
    """Find genes for the weights of a plain network; train.init_from fine-tunes them."""
    from pipelines.inputs.loading import encode_checkpoint, error_table

    here: Path = context.obj
    errors, before, after = encode_checkpoint(here / checkpoint, genes, here / out)
    console.print(error_table(errors))
    console.print(f"{out}: {after:,} of {before:,} parameters ({after / before:.1%})", highlight=False, soft_wrap=True)


app.command("preset")(preset)
app.command("predict")(predict)
app.command("pretrained")(pretrained)
app.command("energy")(energy)
app.command("gc")(gc)


def main() -> None:
    """Run a command in the project folder; bad input results in one message and exit code 2."""
    from pipelines.runtime.input_errors import print_anything, report_input_errors

    print_anything()
    here, project = Path.cwd(), find_project()
    with report_input_errors("gee"):
        if not here.is_relative_to(project):
            _say_where(here, project, sys.argv[1:])
        _check_code(project)
        os.chdir(project)
        os.environ["PATH"] = python_first()
        try:
            app(obj=here)
        except SystemExit as end:
            if end.code in (130, 143):  # Ctrl-C, SIGTERM
                interrupted("gee")
            raise


def _check_code(project: Path) -> None:
    """Check that this process runs the code in ``project``, if that has GEE's code, as DVC's stages do.

    A `pip install .` makes another copy, whose results would count as the project's.
    """
    import pipelines
    from gee_core.errors import InputError

    used = Path(str(pipelines.__file__)).parent
    if (project / "pipelines/cli.py").is_file() and not used.samefile(project / "pipelines"):
        problem = f"`gee` is installed from {used.parent}, and this project has code of its own in {project}"
        install = '`python -m pip install -e ".[evolve,onnx]" -e ./pipelines`'
        raise InputError(problem, f"there, {install} installs that; after `make`, with .venv/bin/python")


def _say_where(here: Path, project: Path, words: list[str]) -> None:
    """Say which project a command works in, given in the folder ``here`` outside of any; `gee run` and the like stop."""
    from gee_core.errors import InputError

    works_anywhere = {"count", "data", "encode", "energy", "pretrained"}
    if not words or words[0] in works_anywhere or {"--help", "-h", "--version", "--pretrained", "--model"} & set(words):
        return
    if words[0] in ("flow", "preset", "run", "study"):
        raise InputError(f"{here}: in no project of GEE (a folder with dvc.yaml)", f"go to a clone, such as {project}")
    print(f"gee: no project here, working in {project}", file=sys.stderr)


if __name__ == "__main__":
    main()

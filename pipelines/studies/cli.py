"""The commands `gee study …`. Heavy imports are inside the commands, so that `gee --help` is quick."""

import json
from typing import Annotated

import typer
from rich.console import Console

from gee_core.errors import InputError
from pipelines.project.safe_yaml import parse_changes

study = typer.Typer(help="Run grids of settings over several seeds, with tables and plots.", no_args_is_help=True)
console = Console(markup=False)  # labels may hold brackets


@study.command("run")
def run_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A file in studies/, without its ending.")],
    preset: Annotated[str | None, typer.Option(help="Start from this preset (default: the study's).")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, max=1000, help="Number of seeds per cell (default: the study's).")] = None,
    data: Annotated[str | None, typer.Option(help="Folder with the images. Sets prepare.path.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Cells to run in parallel (default: CPU cores, or GPUs).")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="Set section.key=value in every cell. Repeatable.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run only the cells with COLUMN=LABEL. Repeatable.")] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Drop the results of these cells, and run them again.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Copy the trained networks to models/studies/, under DVC.")] = False,
    dry: Annotated[bool, typer.Option("--dry", help="Prepare the images, and list the cells without running them.")] = False,
) -> None:
    """Run the cells of a study that have no result yet, then write its table and plots.

    gee study run headline --data /path/to/cifar10 --dry
    gee study run ablation --seeds 5 --set evolve.n_generations=5
    """
    from pipelines.project.paths import in_project
    from pipelines.runtime.process_tree import die_with_parent, exit_on_sigterm
    from pipelines.runtime.settings import Settings
    from pipelines.studies.definition import load_study
    from pipelines.studies.plan import Request
    from pipelines.studies.reports import OUT
    from pipelines.studies.study import describe_plan, plan_study, run_study

    Settings.read()
    exit_on_sigterm()
    die_with_parent()
    data = in_project(data, context.obj)
    request = Request(name, preset, data, seeds, parse_changes(changes or []), parse_only(only or []))
    if dry:
        cells, _, missing = plan_study(load_study(name), request, force)
        lines = [describe_plan(cells, missing), *(f"  {cell.name}" for cell in missing)]
        console.print("\n".join(lines), highlight=False, soft_wrap=True)
        return
    print(run_study(request, jobs, force, keep))
    console.print(f"Tables and plots   {(OUT / request.folder).resolve()}", highlight=False, soft_wrap=True)


@study.command("list")
def list_command(as_json: Annotated[bool, typer.Option("--json", help="One JSON object: titles.")] = False) -> None:
    """List the studies of this project with their titles, or with what is wrong in their files.

    gee study list
    """
    from pipelines.studies.definition import load_study, study_names

    broken, titles = False, {}
    for name in study_names():
        try:
            titles[name] = shown = load_study(name).title
        except InputError as error:
            broken, shown = True, "\n".join(f"error: {line}" for line in str(error).splitlines())
        if not as_json:
            console.print(f"{name:<16} {shown}", highlight=False, soft_wrap=True)
    if as_json:
        print(json.dumps(titles))
    if broken:
        raise typer.Exit(2)


@study.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="A file in studies/, without its ending.")],
) -> None:
    """Show the table of a study's last run, also of a trial by --set or --only.

    gee study show headline
    """
    from pipelines.studies.definition import load_study
    from pipelines.studies.reports import OUT

    load_study(name)
    tables = sorted((OUT / name).rglob("table.md"), key=lambda path: path.stat().st_mtime_ns)
    if not tables:
        raise InputError(f"{name}: no table yet", f"run it with `gee study run {name}`; `--dry` lists its cells")
    print("\n".join([tables[-1].read_text(encoding="utf-8"), *(f"Also  {path}" for path in tables[:-1])]))


def parse_only(choices: list[str]) -> dict[str, set[str]]:
    """Parse ``COLUMN=LABEL`` strings into labels by column."""
    labels: dict[str, set[str]] = {}
    for choice in choices:
        column, equals, label = choice.partition("=")
        if not equals:
            raise InputError(f"--only {choice}", "write COLUMN=LABEL, for instance network=ResNet-19")
        labels.setdefault(column.strip(), set()).add(label.strip())
    return labels

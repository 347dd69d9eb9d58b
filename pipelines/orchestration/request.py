"""What a flow run is asked to do, checked before any work starts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gee_core.config import Params
from gee_core.errors import InputError
from pipelines.check import check_inputs
from pipelines.inputs.network_files import network_files
from pipelines.project.git import COMMIT_IT, check_git, git, head
from pipelines.project.params import check_params, load_params, overridden
from pipelines.project.paths import PARAMS
from pipelines.project.presets import load_preset, set_param_arguments
from pipelines.project.safe_yaml import read_yaml


class Request(NamedTuple):
    """The parameters of the flow `gee`."""

    overrides: dict[str, Any] = {}  # noqa: RUF012 - nothing changes it
    """New values by ``section.key`` of params.yaml."""
    stages: list[str] = []  # noqa: RUF012
    """Run these and what they need; all if it is empty."""
    force: bool = False
    """Run unchanged stages too."""
    preset: str | None = None
    """Start from this preset instead of params.yaml."""

    @property
    def is_experiment(self) -> bool:
        """Whether it runs as a DVC experiment, which leaves params.yaml and the results in the project as they are."""
        return bool(self.overrides) or self.preset is not None


def choice(names: Iterable[str]) -> Any:
    """The type of a flow's parameter that is one of ``names``, so that Prefect's form offers them."""
    return Literal[tuple(names)] if (names := list(names)) else str


def checked(request: Request, project: Path) -> tuple[Params, list[str]]:
    """The parameters of the run, and what DVC has to change in params.yaml for them, as ``--set-param`` takes it.

    Raises:
        InputError: params.yaml, the preset or an override is invalid, or an experiment is not possible here.
    """
    params = load_params(project / PARAMS)
    if not request.is_experiment:
        check_inputs(params)
        return params, []
    values = load_preset(request.preset).values if request.preset is not None else read_yaml(project / PARAMS)
    values = overridden(values, request.overrides, "overrides")
    params = check_params(values, "overrides")
    check_inputs(params)
    values, changes = experiment_changes(values, params, project)
    return check_params(values, "overrides"), changes


def experiment_changes(values: dict, params: Params, project: Path) -> tuple[dict, list[str]]:
    """``values`` as an experiment in a copy of ``project`` takes them, and what DVC has to change in params.yaml for them.

    ``params`` are the same, checked. Images that the copy lacks are named by an absolute path. The changes are as
    ``--set-param`` takes them.

    Raises:
        InputError: there is no git commit of the project, or the copy lacks the code of an own network.
    """
    if head(project) is None:
        check_git(project)
        problem = f"{project.resolve()}: no git commit of the project, which DVC's experiments need"
        raise InputError(problem, f"{COMMIT_IT}; or write params.yaml itself")
    images, network = project.resolve() / params.prepare.path, params.network.name
    if params.prepare.reads_path and _lacks(project, images):
        values = overridden(values, {"prepare.path": str(images)}, "prepare.path")
    for file in network_files(network):
        if git(project, "ls-files", "--others", "--", str(file)):
            raise InputError(f"network.name = {network}: the experiment's copy lacks {file}", f"`git add {file}`")
    return values, set_param_arguments(read_yaml(project / PARAMS), values)


def _lacks(project: Path, images: Path) -> bool:
    """Whether an experiment's copy of the project lacks some of ``images``: git does not track them, or only a link to them.

    The README.md of data/raw is none of them.
    """
    others, tracked = (git(project, "ls-files", *option, "--", str(images)) for option in (("--others", "--directory"), ()))
    return images.is_symlink() or bool(others) or all(Path(file).name == "README.md" for file in (tracked or "").splitlines())


def with_needed(dependencies: dict[str, list[str]], stages: list[str]) -> dict[str, list[str]]:
    """The part of ``dependencies`` that brings ``stages`` up to date: they and what they need; all of it for no stages.

    Raises:
        InputError: there is no such stage.
    """
    for stage in stages:
        if stage not in dependencies:
            raise InputError(f"stages: unknown stage {stage!r}", f"choose one of {', '.join(dependencies)}")
    wanted = set(stages or dependencies)
    for stage in reversed(dependencies):  # those that depend on others come last
        if stage in wanted:
            wanted.update(dependencies[stage])
    return {stage: needed for stage, needed in dependencies.items() if stage in wanted}

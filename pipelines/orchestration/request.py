"""The request of a run, checked before any work starts, and the `dvc` command that fulfils it."""

import contextlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

from gee_core.config import Params
from gee_core.config.network import is_own
from gee_core.errors import InputError
from pipelines.check import check_inputs
from pipelines.project.git import check_git, git, head
from pipelines.project.params import Values, check_params, load_params, override_values, read_sections
from pipelines.project.paths import NETWORKS, PARAMS, SUMMARY
from pipelines.project.presets import load_preset, set_param_arguments
from pipelines.project.safe_yaml import read_yaml
from pipelines.reporting.summary import Summary, read_summary

COMPARE = "dvc exp show --only-changed --drop '[^.]*$|.*/' --keep 'Exp|test_accuracy|parameters|energy_mj'"
"""Shows experiments in 120 columns: of the results three, with the settings that differ, and no checksums."""


class Request(NamedTuple):
    """What `gee run` and the flow `gee` are asked for."""

    overrides: Values = {}  # noqa: RUF012 - nothing changes it
    stages: list[str] = []  # noqa: RUF012
    force: bool = False
    preset: str | None = None

    @property
    def is_experiment(self) -> bool:
        """Whether it runs as a DVC experiment, which leaves params.yaml and the results in the project as they are."""
        return bool(self.overrides) or self.preset is not None

    def options(self) -> list[str]:
        """The options of `gee run`, as words."""
        words = ["--force"] if self.force else []
        words += [] if self.preset is None else ["--preset", self.preset]
        words += [word for stage in self.stages for word in ("--stage", stage)]
        changes = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in self.overrides.items())
        return [*words, *(word for change in changes for word in ("--set", change))]

    def command(self, experiment: str, changes: list[str], keep_going: bool = False) -> list[str]:
        """The `dvc` command: `dvc repro`, or an experiment of this name with ``changes`` to params.yaml in a temporary copy."""
        how = ["repro", *(["--keep-going"] if keep_going else [])]
        if self.is_experiment:
            how = ["exp", "run", "--temp", "--name", experiment, *(f"--set-param={change}" for change in changes)]
        dvc = [sys.executable, "-m", "pipelines.orchestration.dvc", "--wait-for-lock"]
        return [*dvc, *how, *(["--force"] if self.force else []), *self.stages]


def check_request(request: Request) -> tuple[Params, list[str]]:
    """The parameters of the run, and what DVC has to change in params.yaml for them, as ``--set-param`` takes it.

    Raises:
        InputError: params.yaml, a stage, the preset or an override is invalid, or no experiment can be.
    """
    if request.stages:
        file = read_sections(Path("dvc.yaml"), "take it from the repository", "`dvc repro --dry` shows what is wrong")
        known = file.get("stages") or {}
        for stage in request.stages:
            if stage.partition("@")[0] not in known:  # DVC calls a stage of a `foreach` name@item
                raise InputError(f"stages: unknown stage {stage!r}", f"choose one of {', '.join(known)}")
    params = load_params()
    if not request.is_experiment:
        check_inputs(params)
        return params, []
    values = load_preset(request.preset).values if request.preset is not None else read_yaml(PARAMS)
    values = override_values(values, request.overrides, "--set")
    params = check_params(values, "--set")
    check_inputs(params)
    values = experiment_values(values, params)
    return check_params(values, "--set"), set_param_arguments(read_yaml(PARAMS), values)


def experiment_values(values: Values, params: Params) -> Values:
    """``values``, checked as ``params``, as an experiment in a copy of the project takes them.

    Images that the copy lacks are named by an absolute path: git tracks a link, not all of them, or the README.md alone.

    Raises:
        InputError: there is no git commit of the project, or the copy lacks a file of an own network, which git does not track.
    """
    project, name = Path.cwd(), params.network.name
    if head(project) is None:
        check_git(project)
        problem = f"{project}: no git commit of the project, which DVC's experiments need"
        commit = "`git init`, `dvc config core.no_scm false`, then commit the project"  # without git, `make` sets that to true
        raise InputError(problem, f"{commit}; or write params.yaml itself")
    if is_own(name) and (files := git(project, "ls-files", "--others", "--exclude-standard", "--", f"{NETWORKS}/*.py")):
        problem = f"network.name = {name}: a DVC experiment has no file that git does not track"
        raise InputError(problem, f"`git add {' '.join(files.splitlines())}`")
    if not params.prepare.reads_path:
        return values
    images = project / params.prepare.path
    others, tracked = (git(project, "ls-files", *option, "--", str(images)) for option in (("--others", "--directory"), ()))
    lacks = images.is_symlink() or others or all(Path(file).name == "README.md" for file in (tracked or "").splitlines())
    return override_values(values, {"prepare.path": str(images)}, "prepare.path") if lacks else values


def last_summary(experiment: str | None = None) -> Summary | None:
    """The summary of the last run, or that in the git commit of an ``experiment``; None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        if experiment is None:
            return read_summary(SUMMARY)
        ref = git(Path(), "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{experiment}")
        return Summary.model_validate_json((ref and git(Path(), "show", f"{ref}:./{SUMMARY}")) or "")
    return None

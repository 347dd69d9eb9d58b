"""A study as data: studies/NAME.yaml, read and checked as a whole before anything runs."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gee_core.errors import InputError
from pipelines.project.params import validated
from pipelines.project.safe_yaml import read_yaml
from pipelines.studies.metrics import METRICS

STUDIES = Path("studies")
OWN_COLUMNS = ("part", "seed", "status", "key", "commit", "n", "failed", "source", "network_seed")
"""Columns of the tables beside labels and metrics."""
Overrides = dict[str, Any]
"""Values by key of params.yaml, written `section.key`."""


class Part(BaseModel):
    """A part of a study file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Option(Part):
    """One value of a column: what it is called in the table, and what it changes."""

    label: Annotated[str, Field(min_length=1)]
    """Its name in the table."""
    set: Overrides = {}
    """What it changes in params.yaml."""
    paper_genes: Annotated[int, Field(ge=1)] | None = None
    """n_genes as the paper counts them, at full width: scaled by `network.width`, so that the compression stays."""
    times_proxy_epochs: Annotated[int, Field(ge=1)] | None = None
    """Multiplies `evolve.proxy_epochs`, the preset's E."""
    control: Literal["plain", "narrowed"] | None = None
    """`plain`: the same network unencoded. `narrowed`: that, at the width with the genetic network's parameter count."""


class ExplicitCell(Option):
    """A cell beside the grid."""

    label: str = ""
    columns: Annotated[dict[str, str], Field(min_length=1)]
    """Its labels, by column."""


class Published(Part):
    """A row of published numbers, to stand beside ours."""

    columns: dict[str, str]
    """Its labels, by column; those left out stay empty."""
    metrics: dict[str, float]
    """Means; accuracies as fractions."""
    sd: dict[str, float] = {}
    """Standard deviations, where they are published."""
    source: Annotated[str, Field(min_length=1)]
    """Where it stands, and on which images."""


class Plot(Part):
    """A figure of the study's results."""

    kind: Literal["bars", "line", "scatter", "noise", "layers"]
    """`bars`: y by group; `line`: y over the numeric column x; `scatter`: y over the metric x; `noise`: accuracy over r;
    `layers`: energy and firing rates per layer."""
    y: str = "test_accuracy"
    """The metric that is drawn."""
    x: str | None = None
    """Of `line` a column, of `scatter` a metric."""
    group: list[str] = []
    """The columns that tell the lines apart; empty for all."""
    where: dict[str, str] = {}
    """Only cells with these labels, by column."""


class Kendall(Part):
    """How well a candidate's fitness ranks it by its accuracy after full training (Kendall's τ)."""

    kind: Literal["kendall"]
    candidates: Annotated[int, Field(ge=3)]
    """Candidates per seed, drawn as CMA-ES draws its first generation, each trained in full."""
    times_proxy_epochs: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    """The scores that are compared: after these multiples of `evolve.proxy_epochs`."""
    set: Overrides = {}
    """What it changes in params.yaml, for instance `evolve.sigma`, how far the candidates lie apart."""


class Study(Part):
    """A study file."""

    title: Annotated[str, Field(min_length=1)]
    """The heading of its table."""
    preset: str
    """The preset that its cells start from, unless the command names another."""
    set: Overrides = {}
    """What is changed in every cell."""
    presets: dict[str, Overrides] = {}
    """What is changed on top of that for a preset."""
    grid: dict[str, list[Option]] = {}
    """Columns and their options; every combination is a cell. A bare value in a column `section.key` is an option too."""
    cells: list[ExplicitCell] = []
    """More cells, beside the grid."""
    seeds: Annotated[int, Field(ge=1)]
    """How often each cell is run, with the seeds 0, 1, …"""
    stages: list[Literal["evaluate", "robustness"]] = ["evaluate"]
    """The stages after train that its numbers come from."""
    metrics: Annotated[list[str], Field(min_length=1)]
    """The columns of numbers, keys of `pipelines.studies.metrics.METRICS`."""
    published: list[Published] = []
    """Rows of published numbers."""
    plots: list[Plot] = []
    """Figures."""
    analysis: Kendall | None = None
    """What else is measured."""

    @field_validator("grid", mode="before")
    @classmethod
    def _bare_values(cls, grid: Any) -> Any:
        if not isinstance(grid, dict):
            return grid
        return {str(column): _options(str(column), options) for column, options in grid.items()}

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, names: list[str]) -> list[str]:
        for name in names:
            _check_metric(name)
        return names

    @model_validator(mode="after")
    def _parts_agree(self):
        if not self.grid and not self.cells:
            raise ValueError("grid: is empty: give it at least one column with one option")
        for column in self.columns():
            if column in OWN_COLUMNS or column.removesuffix("_sd") in METRICS:
                raise ValueError(f"the column {column!r} is one of the tables' own: call it otherwise")
        for column, options in self.grid.items():
            if not options:
                raise ValueError(f"grid.{column} = []: is empty: give it at least one option")
            labels = [option.label for option in options]
            if twice := {label for label in labels if labels.count(label) > 1}:
                raise ValueError(f"grid.{column}: the label {min(twice)!r} stands twice: every option needs its own")
        for row in self.published:
            for name in row.metrics:
                _check_metric(name)
            for column in row.columns:
                self._check_column(column)
        for plot in self.plots:
            self._check_plot(plot)
        wanted = {*self.metrics, *(plot.y for plot in self.plots if plot.kind != "layers")}
        if "robustness" not in self.stages and ("noise_accuracy" in wanted or any(p.kind == "noise" for p in self.plots)):
            raise ValueError("stages: noise is measured by the stage robustness: add it to stages")
        return self

    def columns(self) -> list[str]:
        """The columns of labels, in order."""
        return list(dict.fromkeys([*self.grid, *(column for cell in self.cells for column in cell.columns)]))

    def _check_plot(self, plot: Plot) -> None:
        for column in (*plot.group, *plot.where):
            self._check_column(column)
        if plot.kind not in ("noise", "layers"):
            _check_metric(plot.y)
        if plot.kind == "line":
            self._check_column(plot.x or "")
        elif plot.kind == "scatter":
            _check_metric(plot.x or "")

    def _check_column(self, column: str) -> None:
        if column not in self.columns():
            raise ValueError(f"unknown column {column!r}: the study has {', '.join(self.columns())}")


def study_names() -> list[str]:
    """The studies of this project."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def load_study(name: str) -> Study:
    """Read and check studies/NAME.yaml; whether its overrides are valid is `pipelines.studies.plan`'s to say.

    Raises:
        InputError: there is no such study, or keys of it are missing, unknown, mistyped or out of range, one line each.
    """
    if name not in study_names():
        raise InputError(f"unknown study {name!r}: choose one of {', '.join(study_names()) or '(there are none)'}")
    path = STUDIES / f"{name}.yaml"
    try:
        values = read_yaml(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML ({error})", "fix it") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: must hold keys such as `title:` and `grid:`: see the other studies")
    return validated(Study, values, path)


def _options(column: str, options: Any) -> Any:
    if not isinstance(options, list):
        return options
    key = "." in column
    return [{"label": str(o), "set": {column: o}} if key and not isinstance(o, dict) else o for o in options]


def _check_metric(name: str) -> None:
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"choose from {', '.join(METRICS)}"
        raise ValueError(f"unknown metric {name!r}: {remedy}")

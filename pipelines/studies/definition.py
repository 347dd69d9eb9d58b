"""The format of studies/NAME.yaml, which is read and checked as a whole before anything runs."""

import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from gee_core.config import StrictModel
from gee_core.errors import InputError
from pipelines.project.params import read_sections, validated
from pipelines.studies.metrics import METRICS, known_metric

STUDIES = Path("studies")
Count = Annotated[int, Field(ge=1)]
RESERVED = {*METRICS, "part", "seed", "status", "key", "commit", "n", "failed", "source", "network_seed"}
"""Columns of the tables that are no labels."""
MEASURED_ROWS = {"noise": "robustness", "hardware": "robustness", "layers": "evaluate"}
"""The stage that measures the rows of a plot, by its kind."""
Overrides = dict[str, Any]
"""Values by setting of params.yaml, written `section.key`."""
Name = Annotated[str, Field(pattern=r"^\S(.*\S)?$")]
"""A column of labels, or a label: one line."""
MetricName = Annotated[str, AfterValidator(known_metric)]
"""A key of `pipelines.studies.metrics.METRICS`."""


class Part(BaseModel):
    """A part of a study file."""

    model_config = StrictModel.model_config


class Change(Part):
    """What a cell changes."""

    set: Overrides = {}
    """The settings that it changes in params.yaml."""
    paper_genes: Count | None = None
    """n_genes as the paper counts them, at full width: scaled by `network.width`, so that the compression stays."""
    times_proxy_epochs: Count | None = None
    """Factor on `evolve.proxy.epochs`, the preset's E."""
    control: Literal["plain", "narrowed"] | None = None
    """`plain`: the same network without genes. `narrowed`: also narrowed to the parameter count of the genetic network."""
    encoded: dict[Annotated[str, Field(pattern=r"^train\.")], Any] | None = None
    """Training starts at genes for the weights of the same plain network, which is trained first with these changes of
    `train`."""


class Option(Change):
    """A value of a column."""

    label: Name
    """Its name in the table."""


class ExplicitCell(Change):
    """A cell in addition to the grid."""

    columns: Annotated[dict[Name, Name], Field(min_length=1)]
    """Its labels, by column."""


class Published(Part):
    """A row of published numbers, for comparison with ours."""

    columns: dict[str, Name]
    """Its labels, by column; those left out stay empty."""
    metrics: dict[MetricName, float]
    """Means; accuracies as fractions."""
    sd: dict[MetricName, float] = {}
    """Their standard deviations, if published."""
    source: Annotated[str, Field(min_length=1)]
    """Where it was published, and on which images it was measured."""


class Plot(Part):
    """A figure of the study's results."""

    kind: Literal["bars", "line", "scatter", "noise", "hardware", "layers"]
    """`bars`: y by group; `line`: y over the numeric column x; `scatter`: y over the metric x; `noise`: accuracy over r;
    `hardware`: accuracy over the strength of each defect of hardware; `layers`: energy and firing rates per layer."""
    y: MetricName = "test_accuracy"
    """The metric that is drawn."""
    x: str | None = None
    """Of `line` a column, of `scatter` a metric."""
    group: list[str] = []
    """The columns whose labels make the groups; empty for one group."""
    where: dict[str, str] = {}
    """Only cells with these labels, by column, are drawn."""

    @model_validator(mode="after")
    def _x_is_there(self) -> "Plot":
        if self.kind in ("line", "scatter") and not self.x:
            raise ValueError("x is missing: add the column of `line`, or the metric of `scatter`")
        if self.kind == "scatter":
            known_metric(str(self.x))
        return self

    def columns(self) -> set[str]:
        """The columns of labels that it names."""
        return {*self.group, *self.where} | ({str(self.x)} if self.kind == "line" else set())

    def measured(self) -> dict[str, str | None]:
        """The metrics or the kind of rows that it draws, each with the stage that measures it."""
        if self.kind in MEASURED_ROWS:
            return {self.kind: MEASURED_ROWS[self.kind]}
        names = [self.y, str(self.x)] if self.kind == "scatter" else [self.y]
        return {name: METRICS[name].stage for name in names}


class Kendall(Part):
    """How well a candidate's fitness ranks it by its accuracy after full training (Kendall's τ)."""

    kind: Literal["kendall"]
    candidates: Annotated[int, Field(ge=3)]
    """Candidates per seed, each trained in full: drawn evenly within the bounds of every searched gene."""
    trainings: Count = 1
    """Full trainings of each candidate. Two or more have seeds and draws of the wiring of their own. A candidate's accuracy is
    then their mean, and their correlation says how well any fitness could rank the candidates."""
    seeds: Count | None = None
    """At most so many seeds; null for as many as the grid has."""
    times_proxy_epochs: Annotated[list[Count], Field(min_length=1)]
    """The scores to compare: after these multiples of `evolve.proxy.epochs`."""
    set: Overrides = {}
    """The settings that it changes in params.yaml, for instance `evolve.sigma`, the spread of the candidates."""


class Study(Part):
    """A study file."""

    title: Annotated[str, Field(min_length=1)]
    """The heading of its table."""
    preset: str
    """The preset that its cells start from, unless the command names another."""
    set: Overrides = {}
    """The settings that every cell changes in params.yaml."""
    presets: dict[str, Overrides] = {}
    """Further changes, by preset."""
    grid: dict[Name, Annotated[list[Option], Field(min_length=1)]] = {}
    """Columns and their options; every combination is a cell. In a column `section.key`, options may be bare values."""
    cells: list[ExplicitCell] = []
    """Further cells."""
    seeds: Count
    """Number of runs of each cell, with the seeds 0, 1, …"""
    stages: list[Literal["evaluate", "robustness", "export"]] = ["evaluate"]
    """The stages after train that its numbers come from."""
    metrics: Annotated[list[MetricName], Field(min_length=1)]
    """The columns of numbers."""
    published: list[Published] = []
    """Rows of published numbers."""
    plots: list[Plot] = []
    """Figures."""
    analysis: Kendall | None = None
    """A further measurement."""

    @field_validator("grid", mode="before")
    @classmethod
    def _bare_values(cls, grid: Any) -> Any:
        if not isinstance(grid, dict):
            return grid
        lists = {str(column): options for column, options in grid.items()}
        for column, options in lists.items():
            if "." in column and isinstance(options, list):
                lists[column] = [o if isinstance(o, dict) else {"label": str(o), "set": {column: o}} for o in options]
        return lists

    @model_validator(mode="after")
    def _parts_agree(self) -> "Study":
        if not self.grid and not self.cells:
            raise ValueError("grid: is empty: give it at least one column with one option")
        cells = [labels for labels, _ in self.combinations()]
        if twice := next((labels for labels in cells if cells.count(labels) > 1), None):
            raise ValueError(f"two cells have the labels {twice}: give each its own")
        if clash := RESERVED & set(self.columns()):
            raise ValueError(f"the column {min(clash)!r} is reserved: give it another name")
        plots = {f"plots.{number}": plot for number, plot in enumerate(self.plots)}
        named = {f"published.{number}": set(row.columns) for number, row in enumerate(self.published)}
        for place, columns in (named | {place: plot.columns() for place, plot in plots.items()}).items():
            if unknown := columns - set(self.columns()):
                raise ValueError(f"{place}: unknown column {min(unknown)!r}: the study has {', '.join(self.columns())}")
        measured = {"metrics": {name: METRICS[name].stage for name in self.metrics}}
        measured |= {place: plot.measured() for place, plot in plots.items()}
        for place, stages in measured.items():
            for name, stage in stages.items():
                if stage is not None and stage not in self.stages:
                    raise ValueError(f"{place}: {name} is measured by the stage {stage}: add it to stages")
        return self

    def columns(self) -> list[str]:
        """The columns of labels, in order."""
        return list(dict.fromkeys([*self.grid, *(column for cell in self.cells for column in cell.columns)]))

    def combinations(self) -> list[tuple[dict[str, str], list[Change]]]:
        """The labels of every cell, by column, and the changes that the cell consists of."""
        combined: list[tuple[dict[str, str], list[Change]]] = []
        for options in itertools.product(*self.grid.values()) if self.grid else ():
            labels = {name: option.label for name, option in zip(self.grid, options, strict=True)}
            combined.append((labels, list(options)))
        return combined + [(cell.columns, [cell]) for cell in self.cells]

    def varied(self) -> frozenset[str]:
        """The settings that differ between its cells."""
        changes = [*itertools.chain(*self.grid.values()), *self.cells]
        counted = frozenset({"network.n_genes"} if any(change.paper_genes for change in changes) else ())
        return counted.union(*(change.set for change in changes), self.analysis.set if self.analysis else {})


def study_names() -> list[str]:
    """The studies of this project."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def load_study(name: str) -> Study:
    """Read and check studies/NAME.yaml; its overrides are checked by `pipelines.studies.plan`.

    Raises:
        InputError: there is no such study, or keys of it are missing, unknown, mistyped or out of range, one line each.
    """
    if name not in study_names():
        raise InputError(f"unknown study {name!r}", f"choose one of {', '.join(study_names()) or '(there are none)'}")
    path = STUDIES / f"{name}.yaml"
    missing, damaged = "it is a link to nothing: remove it", "fix it; pipelines/studies/definition.py says what each key means"
    return validated(Study, read_sections(path, missing, damaged, "keys such as `title:` and `grid:`"), path)

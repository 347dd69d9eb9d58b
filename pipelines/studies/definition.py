"""The format of studies/NAME.yaml, which is read and checked as a whole before anything runs."""

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from gee_core.config import StrictModel
from gee_core.errors import InputError
from pipelines.project.params import read_sections, validate_values
from pipelines.studies.metrics import METRICS, check_metric

STUDIES = Path("studies")
Count = Annotated[int, Field(ge=1)]
MAX_CELLS = 10_000
RESERVED = {*METRICS, "seed", "status", "key", "commit", "n", "failed", "source", "network_seed"}
"""Columns of the tables that are no labels."""
Overrides = dict[str, Any]
"""Values by setting of params.yaml, written `section.key`."""

STAGES = ("evaluate", "robustness", "export")
ROWS = {"layers": "evaluate", "noise": "robustness", "hardware": "robustness"}
"""What has several numbers per cell, each with the stage that measures them."""
ROW_COLUMNS = ("layer", "domain", "r", "strength")
"""What these numbers are measured over."""


def check_line(text: str) -> str:
    """``text``, which is printed as it is. ValueError where it is empty, or holds a line break or another control character."""
    if not text or text != text.strip() or not text.isprintable():
        raise ValueError("write one line of printable characters, without spaces at its ends")
    return text


Line = Annotated[str, AfterValidator(check_line)]
"""A column of labels, a label or a title."""
MetricName = Annotated[str, AfterValidator(check_metric)]
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
    encoded: dict[Annotated[str, Field(pattern=r"^train\.")], object] | None = None
    """Training starts at genes for the weights of the same plain network, which is trained first with these changes of
    `train`."""
    candidate: Annotated[int, Field(ge=0)] | None = None
    """Trains this candidate of the search, counted from 0, in place of the winner."""
    training: Count | None = None
    """Trains with a seed of its own, so that a grid can train one candidate several times."""


class Option(Change):
    """A value of a column."""

    label: Line
    """Its name in the table."""


class ExplicitCell(Change):
    """A cell in addition to the grid."""

    columns: Annotated[dict[Line, Line], Field(min_length=1)]
    """Its labels, by column."""


class Published(Part):
    """A row of published numbers, for comparison with ours."""

    columns: dict[str, Line]
    """Its labels, by column; those left out stay empty."""
    metrics: dict[MetricName, float]
    """Means; accuracies as fractions."""
    sd: dict[MetricName, float] = {}
    """Their standard deviations, if published."""
    source: Line
    """Where it was published, and on which images it was measured."""


class Plot(Part):
    """A figure of the study's results: of its cells, or of the rows that one stage measures in every cell."""

    kind: Literal["bars", "line", "scatter"]
    """`bars`: y by group; `line`: y over the numeric column x; `scatter`: y over the metric x."""
    rows: Literal["layers", "noise", "hardware"] | None = None
    """Rows by layer, by strength of noise or by defect of hardware, in place of the cells."""
    y: MetricName = "test_accuracy"
    """The metric that is drawn."""
    x: str | None = None
    """Of `line` a column, of `scatter` a metric."""
    group: list[str] = []
    """The columns whose labels make the groups; empty for one group."""
    where: dict[str, str] = {}
    """Only cells or rows with these labels, by column, are drawn."""

    @model_validator(mode="after")
    def _require_x(self) -> "Plot":
        if self.kind != "bars" and not self.x:
            raise ValueError("x is missing: add the column of `line`, or the metric of `scatter`")
        if self.kind == "scatter":
            check_metric(str(self.x))
        return self

    def columns(self) -> set[str]:
        """The columns that it names."""
        return {*self.group, *self.where} | ({str(self.x)} if self.kind == "line" else set())

    def metrics(self) -> list[str]:
        """The metrics of cells that it draws."""
        return [] if self.rows else [self.y, *([str(self.x)] if self.kind == "scatter" else [])]


class Study(Part):
    """A study file."""

    title: Line
    """The heading of its table."""
    preset: str
    """The preset that its cells start from, unless the command names another."""
    set: Overrides = {}
    """The settings that every cell changes in params.yaml."""
    presets: dict[str, Overrides] = {}
    """Further changes, by preset."""
    grid: dict[Line, Annotated[list[Option], Field(min_length=1)]] = {}
    """Columns and their options; every combination is a cell. In a column `section.key`, or with the name of another change
    such as `candidate`, options may be bare values."""
    cells: list[ExplicitCell] = []
    """Further cells."""
    seeds: Count
    """Number of runs of each cell, with the seeds 0, 1, …"""
    metrics: Annotated[list[MetricName], Field(min_length=1)]
    """The columns of numbers."""
    published: list[Published] = []
    """Rows of published numbers."""
    plots: list[Plot] = []
    """Figures."""

    @field_validator("grid", mode="before")
    @classmethod
    def _read_bare_values(cls, grid: object) -> object:
        if not isinstance(grid, dict):
            return grid
        lists = {str(column): options for column, options in grid.items()}
        for column, options in lists.items():
            if isinstance(options, list) and ("." in column or column in Change.model_fields):
                bare = [{"label": str(o)} | ({"set": {column: o}} if "." in column else {column: o}) for o in options]
                lists[column] = [o if isinstance(o, dict) else change for o, change in zip(options, bare, strict=True)]
        return lists

    @model_validator(mode="after")
    def _check_agreement(self) -> "Study":
        if not self.grid and not self.cells:
            raise ValueError("grid: is empty: give it at least one column with one option")
        self.check_size(self.seeds)
        labels, n = Counter(str(dict(sorted(labels.items()))) for labels, _ in self.combinations()).most_common(1)[0]
        if n > 1:
            raise ValueError(f"two cells have the labels {labels}: give each its own")
        if clash := RESERVED & set(self.columns()):
            raise ValueError(f"the column {min(clash)!r} is reserved: give it another name")
        named = {f"published.{number}": set(row.columns) for number, row in enumerate(self.published)}
        for number, plot in enumerate(self.plots):
            named[f"plots.{number}"] = plot.columns() - {*(ROW_COLUMNS if plot.rows else ())}
        for place, columns in named.items():
            if unknown := columns - set(self.columns()):
                raise ValueError(f"{place}: unknown column {min(unknown)!r}: the study has {', '.join(self.columns())}")
        return self

    def check_size(self, seeds: int) -> None:
        """Raise InputError where the study has too many cells, before they are combined."""
        n = seeds * ((math.prod(map(len, self.grid.values())) if self.grid else 0) + len(self.cells))
        if n > MAX_CELLS:
            raise InputError(f"{n:,} cells are more than {MAX_CELLS:,}", "leave out options or seeds")

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

    def shown(self) -> list[str]:
        """The metrics of its table and its figures."""
        return list(dict.fromkeys([*self.metrics, *(name for plot in self.plots for name in plot.metrics())]))

    def stages(self) -> tuple[str, ...]:
        """The stages after train that measure its numbers."""
        needed = {METRICS[name].stage for name in self.shown()} | {ROWS[plot.rows] for plot in self.plots if plot.rows}
        return tuple(stage for stage in STAGES if stage in needed)

    def varied(self) -> frozenset[str]:
        """The settings that differ between its cells."""
        changes = [*itertools.chain(*self.grid.values()), *self.cells]
        counted = frozenset({"network.n_genes"} if any(change.paper_genes for change in changes) else ())
        return counted.union(*(change.set for change in changes))


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
    return validate_values(Study, read_sections(path, missing, damaged, "keys such as `title:` and `grid:`"), path)

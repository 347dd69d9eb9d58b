"""What a study is asked for, and the runs of the pipeline that it is made of."""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gee_core.config import Params
from pipelines.studies.definition import Overrides


@dataclass(frozen=True)
class Request:
    """The arguments of `gee study run`; None keeps what the study says."""

    name: str
    preset: str | None = None
    data: str | None = None
    """Replaces `prepare.path`."""
    seeds: int | None = None
    """Number of seeds."""
    overrides: Overrides = field(default_factory=dict)
    """What is changed in every cell."""
    only: dict[str, set[str]] = field(default_factory=dict)
    """Labels of the cells to keep, by column."""

    def options(self) -> list[str]:
        """Those of `gee study run`, as words."""
        given = [("--preset", self.preset), ("--data", self.data), ("--seeds", self.seeds)]
        given += [("--set", f"{key}={json.dumps(value, ensure_ascii=False)}") for key, value in self.overrides.items()]
        given += [("--only", f"{column}={label}") for column, labels in self.only.items() for label in sorted(labels)]
        return [str(word) for option, value in given if value is not None for word in (option, value)]

    def command(self) -> str:
        """The command that repeats the request."""
        return shlex.join(["gee", "study", "run", self.name, *self.options()])


@dataclass(frozen=True)
class Cell:
    """One run of the pipeline."""

    part: str
    """`grid`, or the kind of the analysis that it belongs to."""
    columns: dict[str, str]
    """Its labels, by column."""
    params: Params
    stages: tuple[str, ...]
    """The stages after train that it runs."""
    candidate: int | None = None
    """The candidate of evolve to train in full, instead of the winner."""
    training: int | None = None
    """Which of a candidate's full trainings it is, from 1, each with its own seed; None trains with that of the evolution."""
    control: str | None = None
    encoded: Params | None = None
    """Those of the unencoded network that is trained first, for genes of its weights to start at."""
    prepared: Path = Path()
    """The folder with its prepared images."""
    network: str = ""
    """The `network_digest` of its network when the study began."""
    full_parameters: int = 0
    """Parameters of the unencoded network at the width of the genetic one."""
    key: str = ""
    """Identifies its result: a hash of everything that influences it."""

    @property
    def name(self) -> str:
        """Its labels and seed, for messages."""
        return f"{in_words(self.columns)}, seed {self.params.base.seed}"


@dataclass(frozen=True)
class Draft:
    """A cell whose parameters are not checked yet, since `--only` may leave it out."""

    part: str
    columns: dict[str, str]
    check: Callable[[], Cell]
    """Returns the cell, or raises InputError."""


def in_words(columns: dict[str, str]) -> str:
    """Labels by column, for messages."""
    return ", ".join(f"{column} = {label}" for column, label in columns.items())

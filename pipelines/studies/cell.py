"""The request for a study, the runs of the pipeline that the study is made of, and their results."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gee_core.config import Params
from gee_core.data.meta import Meta
from gee_core.storage.atomic_files import sha256
from gee_core.storage.json_object import json_digest
from pipelines.inputs.init_from import init_from_files
from pipelines.inputs.own_network import network_files
from pipelines.inputs.search import start_files
from pipelines.runtime.run_files import read_record
from pipelines.runtime.run_folder import runs_root
from pipelines.studies.definition import Overrides


@dataclass(frozen=True)
class Request:
    """The arguments of `gee study run`. None keeps the value of the study's file."""

    name: str
    preset: str | None = None
    data: str | None = None
    """Replaces `prepare.path`."""
    seeds: int | None = None
    """Number of seeds."""
    overrides: Overrides = field(default_factory=dict)
    """Changes of every cell."""
    only: dict[str, set[str]] = field(default_factory=dict)
    """Labels of the cells to keep, by column."""

    def options(self) -> list[str]:
        """The options of `gee study run`, as words."""
        given: list[tuple[str, str | int | None]] = [("--preset", self.preset), ("--data", self.data), ("--seeds", self.seeds)]
        given += [("--set", f"{key}={json.dumps(value, ensure_ascii=False)}") for key, value in self.overrides.items()]
        given += [("--only", f"{column}={label}") for column, labels in self.only.items() for label in sorted(labels)]
        return [str(word) for option, value in given if value is not None for word in (option, value)]

    @property
    def folder(self) -> Path:
        """Where its tables go, below reports/studies: a request with changes or a choice of cells is a trial."""
        options = Request(self.name, overrides=self.overrides, only=self.only).options()[1::2]
        words, digest = re.sub(r"[^\w.=-]+", "-", "_".join(options))[:60], json_digest({"options": options})[:6]
        return Path(self.name, "trials", f"{words}-{digest}") if options else Path(self.name)

    def command(self) -> str:
        """The command that repeats the request."""
        return shlex.join(["gee", "study", "run", self.name, *self.options()])


class CellResult(NamedTuple):
    """The answer of a cell."""

    status: str
    """`ok`, or why it failed."""
    metrics: dict[str, float]
    commit: str | None = None
    """Of the code that measured it."""


@dataclass(frozen=True)
class Cell:
    """One run of the pipeline."""

    columns: dict[str, str]
    """Its labels, by column."""
    params: Params
    stages: tuple[str, ...]
    """The stages after train that it runs."""
    candidate: int | None = None
    """The candidate of evolve to train in full, instead of the winner."""
    training: int | None = None
    """The number of a full training, from 1. Each has a seed. None trains with the seed of the search."""
    control: str | None = None
    encoded: Params | None = None
    """The parameters of the plain network that is trained first, for genes of its weights to start at."""
    prepared: Path = Path()
    """The folder with its prepared images."""
    network: str = ""
    """The `network_digest` of its network when the study began."""
    full_parameters: int = 0
    """Parameters of the plain network at the width of the genetic one."""
    key: str = ""
    """Identifies its result: the `cell_key`."""

    @property
    def name(self) -> str:
        """Its labels and seed, for messages."""
        return f"{spell_out(self.columns)}, seed {self.params.base.seed}"

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return runs_root() / f"cell-{self.key}"

    def read_result(self) -> CellResult | None:
        """The result in its folder, or None."""
        record = read_record(self.folder)
        return CellResult(**record.result) if record and record.status == "FINISHED" else None


def spell_out(columns: dict[str, str]) -> str:
    """Labels by column, for messages."""
    return ", ".join(f"{column} = {label}" for column, label in columns.items())


def cell_key(cell: Cell, params: Params, meta: Meta) -> str:
    """16 hexadecimal digits of everything that influences the result of ``cell`` with ``params``, and of nothing else.

    The key leaves out the code, so that an edit invalidates no results: each names its commit. It leaves out the source of the
    images, and `evolve` of a plain network that is not searched. Files that the sections name count by their content.
    """
    evolved = params.scores_candidates
    sections = ["base", "network", *(["evolve"] if evolved else []), "train", *cell.stages]
    values: dict[str, Any] = {name: getattr(params, name).model_dump() for name in sections}
    values |= {"images": meta.model_dump(exclude={"source"}), "candidate": cell.candidate}
    if cell.encoded is not None:
        values["encoded"] = cell.encoded.model_dump(include={"base", "network", "train"})
    if cell.training is not None:
        values["training"] = cell.training
    starts = start_files(params) if evolved else []
    if files := [*starts, *init_from_files(params), *network_files(params.network.name)]:
        values["files"] = [sha256(path) for path in files]
    return json_digest(values)

"""Finds the runs to compare, in folders, git revisions and DVC experiments, and reads their results."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from pydantic import BaseModel, ConfigDict

from gee_core.config import Shape
from gee_core.config.known_networks import encoded_channels, is_own, kernel_positions
from gee_core.errors import InputError, in_short
from gee_core.genome.genotype import analytic_genotype
from gee_core.storage.json_object import read_json_model
from pipelines.project.git import check_git, git
from pipelines.project.params import read_sections
from pipelines.project.paths import LOCK, PARAMS, REPORTS, SUMMARY
from pipelines.project.safe_yaml import read_yaml
from pipelines.reporting.page import read_tables
from pipelines.reporting.summary import reading

WORKSPACE = "workspace"
TABLES = ("evolve/candidates.csv", "train/history.csv", "evaluate/layers.csv", "evaluate/confusion.csv", "robustness/noise.csv")
NAMES = "name folders that hold a reports/, git revisions, DVC experiments (`dvc exp show` lists them) or `workspace`"


class Summary(BaseModel):
    """What a comparison takes from a summary.json."""

    model_config = ConfigDict(frozen=True, strict=True)

    dataset: str
    network: str
    width: float
    n_genes: int | None
    variant: str
    seed: int
    noise_domain: str
    commit: str | None = None
    test_accuracy: float
    noise_accuracy: float
    parameters: int
    energy_mj: float
    energy_with_decoding_mj: float
    spikes_per_image: float


@dataclass(frozen=True)
class Run:
    """The results of a run."""

    name: str
    """As it was named."""
    commit: str | None
    """Of the revision that holds the results; None if they lie in a folder."""
    summary: Summary
    params: dict
    """By key `section.key`; empty if its folder has no params.yaml."""
    tables: dict[str, pd.DataFrame]
    """As `read_tables` gives them."""

    @cached_property
    def winner(self) -> dict:
        """The row of candidates.csv that was trained; empty for a plain network."""
        rows = self.tables["candidates"]
        return next(iter(rows[rows["winner"].eq(True)].head(1).to_dict("records")), {})

    @cached_property
    def shape(self) -> dict[str, float]:
        """The winner's genes of shape by name; NaN where it is not a number."""
        return {gene: pd.to_numeric(self.winner[gene], errors="coerce") for gene in Shape.model_fields if gene in self.winner}

    def sigmas(self) -> pd.DataFrame:
        """The winner's σ's, O's first: ``encoding, sigma``, and ``factor`` as a multiple of the analytic σ.

        An own network's factor is NaN: no code is imported for a result, so its layers are not known.

        Raises:
            InputError: the network is unknown, or has another number of layers.
        """
        if not self.winner:
            return pd.DataFrame(columns=["encoding", "sigma", "factor"])
        if is_own(self.summary.network):
            found = {name: value for name, value in self.winner.items() if re.fullmatch(r"sigma_(O|\d+)", name)}
            known = {name.replace("sigma_", "X").replace("XO", "O"): value for name, value in found.items() if value == value}
            return pd.DataFrame({"encoding": list(known), "sigma": list(known.values()), "factor": math.nan})
        try:
            channels = encoded_channels(self.summary.network, self.summary.width)
            analytic = analytic_genotype(channels, self.summary.n_genes or 0, kernel_positions(self.summary.network))
            sigma = [float(self.winner[name]) for name in ("sigma_O", *(f"sigma_{layer}" for layer in range(len(channels))))]
            if not all(0 < value < math.inf for value in sigma):
                raise ValueError("a σ is not positive")
        except (KeyError, TypeError, ValueError) as error:
            problem = f"{self.name}: candidates.csv does not fit the network {self.summary.network} ({in_short(error)})"
            raise InputError(problem, "leave it out") from None
        table = pd.DataFrame({"encoding": ["O", *(f"X{layer}" for layer in range(len(channels)))], "sigma": sigma})
        return table.assign(factor=table["sigma"] / [analytic.sigma_O, *analytic.sigma_X])


def find_runs(names: Sequence[str], project: Path, here: Path) -> list[Run]:
    """The runs that are called ``names``; folders are relative to ``here``.

    Raises:
        InputError: fewer than two runs are named, or one of them is not there, has no results, or damaged ones.
    """
    if len(dict.fromkeys(names)) < 2:
        raise InputError(f"{', '.join(dict.fromkeys(names)) or 'no run'}: a comparison needs two runs or more", NAMES)
    return [_find(name, project, here) for name in dict.fromkeys(names)]


def _find(name: str, project: Path, here: Path) -> Run:
    folder = project if name == WORKSPACE else here / name
    if name == WORKSPACE or (folder / REPORTS).is_dir():
        return _read(name, None, folder, "run it with `dvc repro`, or leave it out")
    commit = _commit(name, project)
    with TemporaryDirectory() as copy:
        for path in (PARAMS, LOCK, SUMMARY, *(REPORTS / table for table in TABLES)):
            if (text := git(project, "show", f"{commit}:./{path.as_posix()}")) is not None:
                (Path(copy) / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(copy) / path).write_text(text, encoding="utf-8")
        remedy = "name a revision that has a run's results in git, or the folder of a checkout with them"
        return _read(name, commit[:7], Path(copy), remedy)


def _commit(name: str, project: Path) -> str:
    """The commit of a revision or, if there is none, of the DVC experiment of this name."""
    if commit := git(project, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"):
        return commit
    found = (git(project, "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{name}") or "").split()
    if len(found) > 1:
        raise InputError(
            f"{name}: {len(found)} experiments have this name", f"name a commit: {', '.join(c[:7] for c in found)}"
        )
    if not found:
        check_git(project)
        raise InputError(f"{name}: no such run", NAMES)
    return found[0]


def _read(name: str, commit: str | None, folder: Path, remedy: str) -> Run:
    try:
        with reading(folder / SUMMARY, "a summary"):
            summary = read_json_model(folder / SUMMARY, Summary)
        tables = read_tables(folder / REPORTS)
        sections = read_sections(folder / PARAMS, remedy, remedy) if (folder / PARAMS).is_file() else {}
        sections |= _ran_with(folder / LOCK)
    except InputError as error:
        raise InputError(f"{name}: {error.problem.replace(f'{folder}/', '')}", remedy) from None
    return Run(name, commit, summary, flat(sections), tables)


def _ran_with(lock: Path) -> dict:
    """The sections of params.yaml that stages ran with, where DVC has recorded them: the file may have changed since."""
    try:
        sections = [stage.get("params", {}).get(PARAMS.name, {}) for stage in read_yaml(lock)["stages"].values()]
        return {name: values for section in sections for name, values in section.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # there is none, or it is damaged
        return {}


def flat(sections: dict) -> dict:
    """Values by `section.key`."""
    nested = {name: section if isinstance(section, dict) else {"": section} for name, section in sections.items()}
    return {f"{name}.{key}".rstrip("."): value for name, section in nested.items() for key, value in section.items()}


def differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The params that are not the same in all ``runs`` whose params are known, as text by key; a dash where a run lacks one."""
    keys = dict.fromkeys(key for run in runs for key in run.params)
    values = {key: [_text(run.params[key]) if key in run.params else "–" for run in runs] for key in keys}
    known = [bool(run.params) for run in runs]
    return {key: shown for key, shown in values.items() if len(set(compress(shown, known))) > 1}


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

"""The small project, in a temporary folder, in which `benchmarks.chaos` kills commands; its results and journals."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ruamel.yaml import YAML

from benchmarks.project_copy import copy_files, leave_git
from pipelines.runtime.run_files import ROWS, read_record, read_rows

ENVIRONMENT = {
    "GEE_TRACKING": "off",
    "GEE_COMPILE": "0",
    "GEE_WORKERS": "2",
    "GEE_SAVE_SECONDS": "1",
    "OMP_NUM_THREADS": "1",
    "DVC_NO_ANALYTICS": "1",
}
TINY: dict[str, dict] = {
    "base": {"precision": "fp32"},  # `auto` measures speeds, which load changes
    "network": {"width": 0.0625, "n_genes": 6, "T": 2},
    "prepare": {"max_train_images": 400, "max_test_images": 100},
    "evolve": {"n_generations": 2, "population_size": 4},
    "train": {"epochs": 10, "warmup_epochs": 1},
    "robustness": {"strengths": [0.0, 0.5], "n_seeds": 1},
    "export": {"register_model": False},
}
STUDY = {
    "title": "A small study",
    "preset": "digits",
    "seeds": 2,
    "presets": {"digits": {f"{section}.{key}": value for section, keys in TINY.items() for key, value in keys.items()}},
    "grid": {"encoding": [{"label": "genetic"}, {"label": "unencoded", "control": "plain"}]},
    "metrics": ["test_accuracy", "best_fitness", "parameters"],
}


@dataclass(frozen=True)
class Work:
    """A command, and the files that it writes."""

    name: str
    arguments: tuple[str, ...]
    results: tuple[str, ...]
    anew: tuple[str, ...]
    """What to delete from a finished project, so that the command has work to do."""
    known: tuple[str, ...] | None = None
    """Stages that are kept in dvc.lock; None for all."""


RESULTS = (
    "models/evolve/genotype.json",
    "models/train/network.safetensors",
    "models/export/network.onnx",
    "reports/evolve/candidates.csv",
    "reports/train/history.csv",
    "reports/summary.json",
)
PIPELINE = Work("pipeline", ("run",), RESULTS, ("data/prepared", "models", "reports", ".scratch", ".dvc/cache", "dvc.lock"))
TRAIN = Work(
    "pipeline from train on",
    ("run",),
    RESULTS,
    ("models/train", "models/export", "reports/train", "reports/summary.json", ".scratch/runs", ".dvc/cache/runs"),
    ("prepare", "evolve"),
)
SMALL_STUDY = Work(
    "study",
    ("study", "run", "chaos"),
    ("reports/studies/chaos/cells.csv", "reports/studies/chaos/table.csv"),
    ("reports/studies", ".scratch/runs"),
)


def make_project(folder: Path) -> Path:
    """A copy of the code with small parameters and a small study, without git."""
    copy_files(folder, TINY | {"evolve": TINY["evolve"] | {"proxy": {"epochs": 3}}})
    with (folder / "studies/chaos.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(STUDY, file)
    leave_git(folder)
    return folder


def copy_project(done: Path, work: Work, folder: Path) -> Path:
    """A copy of a finished project, without the results of ``work``."""
    shutil.copytree(done, folder)
    for name in work.anew:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if work.known is not None:
        yaml, lock = YAML(), folder / "dvc.lock"
        values = yaml.load(lock.read_text(encoding="utf-8"))
        values["stages"] = {name: stage for name, stage in values["stages"].items() if name in work.known}
        with lock.open("w", encoding="utf-8") as file:
            yaml.dump(values, file)
    return folder


def start(work: Work, project: Path, log: IO[bytes]) -> subprocess.Popen:
    """Start the command of ``work`` in its own process group."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | ENVIRONMENT
    command = [sys.executable, "-m", "pipelines.cli", *work.arguments]
    return subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def results(work: Work, project: Path) -> dict[str, bytes]:
    """The files of ``work``; the summary without the commit."""
    found = {name: (project / name).read_bytes() for name in work.results if (project / name).is_file()}
    if summary := found.get("reports/summary.json"):
        found["reports/summary.json"] = json.dumps(json.loads(summary) | {"commit": None}).encode()
    return found


def left_over(project: Path) -> list[str]:
    """Temporary files of interrupted writes among the results."""
    found = [path for folder in ("data", "models", "reports") for path in (project / folder).rglob(".*")]
    return [str(path.relative_to(project)) for path in found if path.name != ".gitignore"]


def spoil(project: Path, draw: random.Random) -> bool:
    """Cut off the newest training state, flip a bit of it, or make a row no text; returns whether there was one."""
    states = [path for path in project.glob(".scratch/**/*step-*.safetensors") if path.with_suffix(".json").is_file()]
    logs = [path for path in project.glob(f".scratch/runs/*/{ROWS}") if not _is_finished(path.parent)]
    choices = [max(states, key=lambda path: path.stat().st_mtime_ns)] * 2 if states else []
    choices += [path for path in logs if path.stat().st_size]
    if not choices:
        return False
    path = draw.choice(choices)
    at = draw.randrange(path.stat().st_size - 1)
    with path.open("r+b") as file:  # in place, as a disk would do it
        if path.suffix == ".safetensors" and draw.random() < 0.5:
            file.truncate(at)
            return True
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << (draw.randrange(8) if path.suffix == ".safetensors" else 7)]))
    return True


def _is_finished(folder: Path) -> bool:
    record = read_record(folder)
    return record is not None and record.status == "FINISHED"


class Journals:
    """Keeps every version of every journal of candidates in a project, by a thread that makes hard links."""

    def __init__(self, project: Path, links: Path):
        self._project, self._links = project, links
        self._versions: dict[Path, dict[int, Path]] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Journals":
        self._links.mkdir()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            for path in (Path(at, ROWS) for at, _, files in os.walk(self._project / ".scratch") if ROWS in files):
                with contextlib.suppress(FileNotFoundError):
                    name, inode = path.relative_to(self._project), path.stat().st_ino
                    if inode not in self._versions.get(name, {}):
                        link = self._links / str(inode) / ROWS
                        if not link.exists():  # it may be linked under another name already
                            link.parent.mkdir(exist_ok=True)
                            os.link(path, link)
                        self._versions.setdefault(name, {})[inode] = link

    def records(self) -> dict[Path, list[list[dict]]]:
        """The intact rows of candidates by journal and version, oldest first."""
        found = {path: [read_rows(link.parent) for link in links.values()] for path, links in list(self._versions.items())}
        return {path: [[row for row in rows if "place" in row] for rows in versions] for path, versions in found.items()}

"""Keeps the trained networks of a study: writes each as the stage export does, and gives their folder to DVC."""

import re
import sys
from pathlib import Path

from gee_core.checkpoint import save
from gee_core.errors import InputError
from gee_core.storage.json_object import read_sealed, write_sealed
from pipelines import evaluate
from pipelines.export import write_all
from pipelines.project.paths import CHECKPOINT, MODELS
from pipelines.runtime.process_tree import run_in_group
from pipelines.runtime.resume_folder import delete_folder
from pipelines.studies.cell import Cell, CellResult
from pipelines.studies.display import Display
from pipelines.studies.steps import trained_network

KEPT = MODELS / "studies"
RESULT = "result.json"
"""The cell's result, next to its network; written last."""


def keep_networks(study: str, results: list[tuple[Cell, CellResult]], watch: Display) -> None:
    """Write the network of every cell to a folder in models/studies/STUDY/, by `folder_name`, and give STUDY/ to DVC.

    A network that is kept already, exported with the same settings, is left as it is. Candidates of a search and cells that
    failed have none.

    Args:
        study: its name.
        results: the cells with their results.
        watch: shows the progress.

    Raises:
        InputError: DVC refused the folder.
    """
    out = KEPT / study
    for cell, result in results:
        folder = out / folder_name(cell)
        if cell.candidate is None and result["status"] == "ok" and not _is_kept(folder, cell, result):
            _keep(cell, result, folder, watch)
            watch.kept(cell, folder)
    if out.is_dir():
        _add_to_dvc(out)


def _keep(cell: Cell, result: CellResult, folder: Path, watch: Display) -> None:
    net, data = trained_network(cell, lambda note: watch.note(cell, note))
    watch.note(cell, "export")
    measured = evaluate.run(cell.params, net, data)[0]  # of this very network: the result may be of earlier code
    delete_folder(folder)  # what other settings wrote, such as files of genes
    save(folder / CHECKPOINT.name, net.cpu())
    write_all(folder, cell.params, net, data, measured, registered=False)
    metrics = result["metrics"] | measured.model_dump()
    write_sealed(folder / RESULT, dict(result) | {"params": cell.params.model_dump(), "metrics": metrics})


def folder_name(cell: Cell) -> str:
    """Its labels, seed and the beginning of its key: cells that differ in anything have folders of their own."""
    labels = re.sub(r"[^\w.=-]+", "-", "-".join(cell.columns.values()))
    labels = labels.encode()[:150].decode(errors="ignore")  # of the 255 that a file system takes
    return f"{labels}-seed{cell.params.base.seed}-{cell.key[:8]}"


def _is_kept(folder: Path, cell: Cell, result: CellResult) -> bool:
    kept = read_sealed(folder / RESULT, "key", "commit", "params")
    if kept is None or (kept["key"], kept["commit"]) != (result["key"], result["commit"]):
        return False
    return kept["params"]["export"] == cell.params.export.model_dump()


def _add_to_dvc(folder: Path) -> None:
    done = run_in_group([sys.executable, "-m", "dvc", "--wait-for-lock", "add", str(folder)])
    if done.returncode:
        said = [line.removeprefix("ERROR: ") for line in done.stdout.splitlines() if line.startswith("ERROR: ")]
        raise InputError(f"`dvc add {folder}`: {'; '.join(said) or done.stdout[-500:]}", "mend it and give that command again")

"""The file that `train.init_from` names: a plain checkpoint, or a network that comes with GEE. Nothing here loads torch."""

from pathlib import Path

from gee_core.config import Params
from gee_core.errors import InputError
from gee_core.pretrained.files import list_pretrained, pretrained_file
from pipelines.inputs.remedies import TRACKED
from pipelines.project.watched_files import check_in_inputs


def init_from_files(params: Params) -> list[Path]:
    """The checkpoint in `train.init_from` and its .json, or the file of a shipped network, that a training run depends on."""
    if params.train.init_from is None:
        return []
    if params.train.init_from in list_pretrained():
        return [pretrained_file(params.train.init_from)]
    path = Path(params.train.init_from)
    check_in_inputs("train.init_from", path)
    files = [path, path.with_suffix(".json")]
    for file in files:
        if not file.is_file():
            remedy = (
                f"copy the checkpoint of a plain network there, both files ({TRACKED}); or name one that `gee pretrained` lists"
            )
            raise InputError(f"train.init_from = {path}: {file}: no such file", remedy)
    return files

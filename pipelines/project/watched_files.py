"""Checks of where the files lie that params.yaml names: DVC has to watch them, so that a change makes stages run again."""

import os
import shlex
from pathlib import Path

from gee_core.config import PrepareConfig
from gee_core.errors import InputError
from gee_core.storage.atomic_files import writing
from pipelines.project.paths import INPUTS


def check_raw_folder(cfg: PrepareConfig) -> None:
    """Check that `prepare.path` exists, since DVC watches it; the folder is made where torchvision can download into it."""
    path = Path(cfg.path)
    if cfg.is_downloadable and path.parts[:1] != ("~",):  # which torchvision expands, and nothing else does
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
    elif not path.is_dir():
        from gee_core.data.folders import no_folder  # loads Pillow

        raise no_folder(path, f"prepare.path = {cfg.path}", "put the images there, or set it to where they are")


def check_links(cfg: PrepareConfig) -> None:
    """Check that the folders of splits and classes are no links: DVC looks through `prepare.path` and the files alone."""
    from gee_core.data.folders import is_in_files, linked_folders  # loads Pillow

    if not is_in_files(cfg):
        return
    path = Path(cfg.path)

    if found := linked_folders(path):
        names = f"{shlex.quote(os.path.abspath(path))} {shlex.quote(f'{path}-linked')}"
        more = f" (as are {len(found) - 1} more)" if len(found) > 1 else ""
        raise InputError(
            f"{found[0]}: is a link to a folder{more}, and DVC would notice no change of the images behind it",
            f"set prepare.path to a folder of links to the files: `cp -rsL {names}`",
        )


def check_in_inputs(key: str, path: Path) -> None:
    """Check that the file ``path``, which ``key`` names, lies in the folder whose contents DVC watches."""
    if not Path(os.path.abspath(path)).is_relative_to(INPUTS.absolute()):
        problem = f"{key} = {path}: not in the folder {INPUTS}/, the only one in which DVC watches files for {key}"
        raise InputError(problem, f"copy the file there and set {key} to {INPUTS / path.name}")

"""Copies of the project, with small parameters, in which benchmarks and tests run its commands."""

import shutil
import subprocess
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]


def copy_files(folder: Path, changes: dict[str, dict]) -> None:
    """Copy the committed files to ``folder``, as they are here, with ``changes`` to the preset digits, by section."""
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    shutil.copy(ROOT / "presets/digits.yaml", folder / "params.yaml")
    change_params(folder, changes)


def leave_git(folder: Path) -> None:
    """Let DVC work in ``folder`` although it is no git repository."""
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")


def change_params(folder: Path, changes: dict[str, dict]) -> None:
    """Write ``changes``, by section, to params.yaml in ``folder``."""
    yaml = YAML()
    values = yaml.load((folder / "params.yaml").read_text(encoding="utf-8"))
    for section, keys in changes.items():
        values[section].update(keys)
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(values, file)

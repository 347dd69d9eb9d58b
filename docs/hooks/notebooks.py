"""Adds the notebooks of `notebooks/`, which lies beside `docs/`, to the site; mkdocs-jupyter renders them."""

from pathlib import Path

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files, config):
    """Append one file per notebook."""
    folder = Path(config.config_file_path).parent / "notebooks"
    for path in sorted(folder.glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.name}", abs_src_path=str(path)))
    return files

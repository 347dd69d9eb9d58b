"""Adds the notebooks of `notebooks/`, which lies beside `docs/`, to the site; mkdocs-jupyter renders them."""

import re
from pathlib import Path

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File


def on_page_markdown(markdown, page, config, files):
    """Links to `notebooks/` lead out of `docs/` in the repository, and to a folder of the site here: a step less upwards."""
    return re.sub(r"\]\(\.\./((?:\.\./)*notebooks/)", r"](\1", markdown)


@event_priority(100)  # before mkdocs-jupyter looks for notebooks
def on_files(files, config):
    """Append one file per notebook."""
    root = Path(config.config_file_path).parent
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        files.append(File(f"notebooks/{path.name}", str(root), config.site_dir, config.use_directory_urls))
    return files


def on_page_content(html, page, config, files):
    """Take out what nbconvert loads from other servers: MathJax and Mermaid, which no notebook here uses."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    html = re.sub(r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->", "", html, flags=re.DOTALL)
    return re.sub(r'<script type="module">.*?<!-- End of mermaid configuration -->', "", html, flags=re.DOTALL)

"""The site: built without a warning, complete, and read without a network."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SOURCE = r"<(?:script|img|iframe)[^>]*\ssrc=\"?([^\"\s>]+)"
SHEET = r"<link[^>]*rel=\"?(?:stylesheet|preconnect|preload)[^>]*href=\"?([^\"\s>]+)"


def build(root: Path, to: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", root / "mkdocs.yml", "--site-dir", to]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(root, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(root, folder)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_and_notebook_is_there_and_has_a_title(root, site):
    sources = [*(root / "docs").rglob("*.md"), *(root / "notebooks").glob("*.ipynb")]
    for source in sources:
        base = root / "docs" if source.suffix == ".md" else root
        text = (site / source.relative_to(base).with_suffix(".html")).read_text(encoding="utf-8")
        assert re.search(r"<h1[^>]*>\s*\S", text), source
    assert len(sources) > 20


def test_no_page_loads_anything_from_another_server(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(SOURCE, text) + re.findall(SHEET, text)
        assert loaded
        assert [url for url in loaded if re.match(r"(https?:)?//", url)] == []
    sheets = [sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css")]
    assert not any(re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet) for sheet in sheets)


def test_the_knobs_the_public_names_and_their_signatures_are_on_their_pages(site):
    knobs = (site / "knobs.html").read_text(encoding="utf-8")
    assert (
        "<code>proxy_epochs</code>" in knobs and "<code>GEE_ENGINE</code>" in knobs and "<!--" not in knobs.split("<article")[1]
    )
    encoding = (site / "reference/encoding.html").read_text(encoding="utf-8")
    assert 'id="gee_core.encode"' in encoding and "n_genes" in encoding
    assert 'href="encoding.html#gee_core.encode"' in (site / "reference/index.html").read_text(encoding="utf-8")


def test_sources_of_the_site_are_not_part_of_it(site):
    assert list(site.rglob("*.py")) == []


@pytest.mark.parametrize("link", ["[x](no-such-page.md)", "[x](index.md#no-such-heading)"])
def test_a_dead_link_fails_the_build(root, tmp_path, link):
    for name in ("docs", "gee_core", "notebooks", "pipelines"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mkdocs.yml", "params.yaml"):
        shutil.copy(root / name, tmp_path)
    with (tmp_path / "docs/FILES.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{link}\n")
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    (warning,) = [line for line in built.stderr.splitlines() if line.startswith("WARNING")]
    assert "FILES.md" in warning and link[4:-1].split("#")[-1] in warning

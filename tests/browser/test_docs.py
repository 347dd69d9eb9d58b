"""The site of the documentation in a browser: what its search finds first, and its figures on a dark page."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.conftest import white_share

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "--config-file", ROOT / "mkdocs.yml", "--site-dir", folder]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    return folder


@pytest.mark.parametrize(
    ("query", "first"),
    [("reset_net", ""), ("--set", "knobs.html"), ("train.lr", "knobs.html#train"), ("energy", "how-it-works.html#energy")],
)
def test_the_search_finds_names_options_and_explanations(docs, page, query, first):
    page.goto((docs / "faq.html").as_uri())
    page.locator("input.md-search__input").press_sequentially(query)
    found = page.locator(".md-search-result__item")
    found.first.wait_for()
    links = found.first.locator("a").evaluate_all("links => links.map(a => a.getAttribute('href').replace(/[?]h=[^#]*/, ''))")
    assert any(link.endswith(first) for link in links)


def test_figures_of_measurements_are_not_white_on_a_dark_page(docs, page):
    page.emulate_media(color_scheme="dark")
    page.goto((docs / "RESULTS.html").as_uri())
    assert white_share(page.locator("img[src*='results/']").first) < 0.05

"""The pages that the project makes itself, which need no network: the report, and the comparison of runs."""

import hashlib
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.project_copy import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def comparison(site) -> Path:
    """The shipped run of the preset digits beside the small one."""
    run(site.project, sys.executable, "-m", "pipelines.cli", "compare", "HEAD", "workspace")
    return site.project / "reports/compare.html"


def open_page(page, path: Path, width: int) -> None:
    """Open a page in a window of ``width`` pixels; whatever it reports or asks the network for fails the test."""
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(path.as_uri())
    assert not said
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [400, 1200])
def test_the_report_shows_the_result_and_where_its_run_is_in_mlflow(site, page, width):
    open_page(page, site.project / "reports/index.html", width)
    result = hashlib.sha256((site.project / "reports/summary.json").read_bytes()).hexdigest()[:12]
    for text in ("Test accuracy", result):
        expect(page.get_by_text(text).first).to_be_visible()
    assert page.locator("svg").count() > 5


@pytest.mark.parametrize("width", [400, 1200])
def test_the_comparison_shows_both_runs_and_what_they_differ_in(comparison, page, width):
    open_page(page, comparison, width)
    for text in ("2 runs compared", "HEAD", "workspace", "Parameters that differ"):
        expect(page.get_by_text(text).first).to_be_visible()
    assert page.locator("svg").count() > 3

"""Takes the screenshots of README and the site, in 20 minutes: `python docs/figures/screenshots.py --recordings FOLDER`.

It runs the preset digits four times and nmnist once in a copy of the project, and looks at the pages in Chromium.
FOLDER holds N-MNIST. Report and MLflow follow the colours of the browser: each has a light and a dark picture.
"""

import argparse
import io
import re
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for the tests' servers
from tests.browser.conftest import QUIET, Site, find_browser, serving
from tests.project_copy import copy_project, run

FOLDER = Path(__file__).parent
OTHERS = ("network.n_genes=16",), ("train.lr=0.02",), ("network.n_genes=null", "evolve.variant=analytic")
"""The changes of the runs that MLflow's table compares with the preset."""
SETTLED = 5_000
"""Milliseconds after which MLflow and Prefect have drawn their charts."""


def open_page(browser: Browser, address: str, width: int, colours: str) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 1440}, color_scheme=colours)
    page.goto(address)
    page.wait_for_timeout(SETTLED)
    return page


def take(page: Page, name: str, height: int) -> None:
    """The upper part of a page in 256 colours, as a file beside this one; the page is closed."""
    taken = page.screenshot(clip={"x": 0, "y": 0, "width": page.viewport_size["width"], "height": height})
    Image.open(io.BytesIO(taken)).convert("RGB").quantize(256).save(FOLDER / f"{name}.png", optimize=True)
    page.context.close()  # an open page of MLflow takes most of a core


def follow(page: Page, link: Locator) -> Page:
    """The view of MLflow that a link in a description opens, without the assistant of the first visit."""
    with page.expect_popup() as opened:
        link.first.click()
    view = opened.value
    view.set_viewport_size(page.viewport_size)
    view.wait_for_timeout(SETTLED)
    if (assistant := view.get_by_role("button", name="Close", exact=True)).count():
        assistant.first.click()
    view.wait_for_timeout(SETTLED)
    return view


def take_mlflow(browser: Browser, site: Site, colours: str) -> None:
    runs = f"{site.mlflow}/#/experiments/1/runs"
    page = open_page(browser, f"{runs}?workflowType=machine_learning", 1440, colours)
    take(follow(page, page.get_by_role("link", name="Results", exact=True)), f"mlflow-{colours}", 490)
    page = open_page(browser, f"{runs}/{site.runs('pipeline')[0]}", 1440, colours)
    take(follow(page, page.get_by_role("link", name=re.compile("genes and fitness"))), f"genes-{colours}", 860)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=Path, required=True, help="The folder of N-MNIST.")
    recordings = parser.parse_args().recordings.resolve()
    gee = [sys.executable, "-m", "pipelines.cli"]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser, project = playwright.chromium.launch(executable_path=find_browser(), args=QUIET), Path(folder) / "gee"
        copy_project(project, {})
        with serving(project) as site:
            for changes in OTHERS:
                run(project, *gee, "run", *(f"--set={change}" for change in changes), GEE_TRACKING="on")
            for colours in ("light", "dark"):
                take(open_page(browser, (project / "reports/index.html").as_uri(), 1200, colours), f"report-{colours}", 1000)
                take_mlflow(browser, site, colours)
            page = open_page(browser, f"{site.prefect}/runs", 1280, "light")
            page.locator("a[href*='/runs/flow-run/']").first.click()
            page.wait_for_timeout(SETTLED)
            take(page, "prefect", 640)
        run(project, *gee, "preset", "use", "nmnist", "--data", str(recordings))
        run(project, *gee, "run", GEE_TRACKING="off", GEE_COMPILE="1")
        take(open_page(browser, (project / "reports/index.html").as_uri(), 1200, "light"), "recording", 960)
        browser.close()


if __name__ == "__main__":
    main()

"""What a person sees in Prefect after a flow run."""

import json
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.slow


def open_run(site, page) -> None:
    """Open the page of the flow run from the list of runs."""
    page.goto(f"{site.prefect}/runs")
    page.locator("a[href*='/runs/flow-run/']").first.click()
    expect(page.get_by_text("Completed").first).to_be_visible()


def test_the_log_of_a_run_shows_how_far_it_got(site, page):
    open_run(site, page)
    expect(page.get_by_text("train 3/3 100 %").first).to_be_attached()


def test_a_run_shows_its_parameters_and_its_artifacts(site, page):
    open_run(site, page)
    page.get_by_text("Parameters", exact=True).click()
    expect(page.get_by_text("overrides").first).to_be_visible()
    page.get_by_text("Artifacts", exact=True).click()
    for key in ("gee-results", "gee-mlflow", "gee-report", "gee-train", "gee-evolve"):
        expect(page.get_by_text(key).first).to_be_visible()


def test_the_form_of_a_deployment_offers_the_parameters(site, page):
    with urlopen(f"{site.prefect}/api/deployments/name/gee/nightly", timeout=600) as answer:
        deployment = json.load(answer)["id"]
    page.goto(f"{site.prefect}/deployments/deployment/{deployment}/run")
    for name in ("overrides", "stages", "force", "preset"):
        expect(page.get_by_text(name, exact=False).first).to_be_visible()

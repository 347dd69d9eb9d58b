"""What a person sees after a run of the pipeline: on the pages that it makes, in MLflow and in Prefect.

One file: pytest-xdist gives each file to one of its processes, and every process would run the pipeline again.
"""

import hashlib
import io
import json
import re
from pathlib import Path
from urllib.request import urlopen

import pytest
from PIL import Image
from playwright.sync_api import expect

pytestmark = pytest.mark.slow


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


def white_share(element) -> float:
    """The share of an element's pixels that are nearly white."""
    grey = Image.open(io.BytesIO(element.screenshot())).convert("L")
    return sum(grey.histogram()[235:]) / (grey.width * grey.height)


def test_no_figure_of_the_report_is_white_on_a_dark_page(site, page):
    page.emulate_media(color_scheme="dark")
    page.goto((site.project / "reports/index.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    figures = page.locator(".plot").all()
    assert len(figures) > 5 and max(map(white_share, figures)) < 0.1


def test_the_search_of_the_docs_finds_names_options_and_explanations(page, built_site):
    page.emulate_media(color_scheme="dark")
    page.goto((built_site / "RESULTS.html").as_uri())
    assert white_share(page.locator("img[src*='results/']").first) < 0.05
    found = {"reset_net": "", "--set": "knobs.html", "train.lr": "knobs.html#train", "energy": "how-it-works.html#energy"}
    found |= {"quantize": "", "normalization": "", "pip": "first-run.html", "custom dataset": "your-images.html"}
    found |= {"transfer learning": "pretrained.html#fine-tune-one-on-your-photographs"}
    for query, first in found.items():
        page.goto((built_site / "faq.html").as_uri())
        page.locator("input.md-search__input").press_sequentially(query)
        links = page.locator(".md-search-result__item").first.locator("a")
        links.first.wait_for()
        assert any(re.sub(r"[?]h=[^#]*", "", link.get_attribute("href")).endswith(first) for link in links.all())


@pytest.fixture(scope="module")
def summary(site) -> dict:
    return json.loads((site.project / "reports/summary.json").read_text())


def test_the_list_shows_the_result_in_a_window_of_1280_pixels(site, page, summary):
    page.goto(f"{site.mlflow}/#/experiments/1/runs?workflowType=machine_learning")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Results", exact=True).first.click()
    view = opened.value
    view.set_viewport_size({"width": 1280, "height": 900})
    assistant = view.get_by_role("button", name="Close", exact=True)  # which MLflow opens on the first visit
    expect(view.get_by_role("link", name=re.compile("^digits · "))).to_have_count(1)
    if assistant.count():
        assistant.first.click()
    columns = ["changed", "test_accuracy", "plain_test_accuracy", "parameters", "parameter_ratio", "energy_uj", "Duration"]
    expect(view.get_by_role("button", name="Sort: test_accuracy")).to_be_visible()
    for name in columns:
        heading = view.get_by_role("columnheader").filter(has_text=name).last
        expect(heading).to_be_visible()
        assert heading.bounding_box()["x"] + heading.bounding_box()["width"] <= 1280
    for text in (f"{summary['test_accuracy']:g}", str(summary["parameters"])):
        expect(view.get_by_text(text).first).to_be_visible()
    for text in ("digits (", "pipelines.cli flow run"):
        expect(view.get_by_text(text)).to_have_count(0)


def test_the_candidates_of_a_search_are_one_click_from_its_run_with_their_genes(site, page):
    (run_id,) = site.runs("pipeline")
    page.goto(f"{site.mlflow}/#/experiments/1/runs/{run_id}")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Candidates", exact=True).first.click()
    for text in ("rank", "winner", "fresh_fitness", "L_ce", "gene.width", "gen0-cand0"):
        expect(opened.value.get_by_text(text, exact=True).first).to_be_visible()
    expect(opened.value.get_by_text("rescore-")).to_have_count(0)


def test_the_page_of_the_model_says_what_it_is_and_how_to_use_it(site, page, summary):
    page.goto(f"{site.mlflow}/#/models/gee-digits-cifarnet")
    expect(page.get_by_text("champion").first).to_be_visible()
    page.goto(f"{site.mlflow}/#/models/gee-digits-cifarnet/versions/1")
    expect(page.get_by_text(re.compile(r"A spiking network whose weights are grown from \d+ genes")).first).to_be_visible()
    expect(page.get_by_text("mlflow models serve").first).to_be_visible()
    expect(page.get_by_text(f"test_accuracy {summary['test_accuracy']:.6g}", exact=True)).to_be_visible()
    expect(page.get_by_text("library_name")).to_have_count(0)


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
    for key in ("gee-results", "gee-mlflow", "gee-train", "gee-evolve"):
        expect(page.get_by_text(key).first).to_be_visible()


def test_the_form_of_a_deployment_sends_a_preset_of_its_list_and_what_was_filled_in(site, page):
    with urlopen(f"{site.prefect}/api/deployments/name/gee/nightly", timeout=600) as answer:
        deployment = json.load(answer)["id"]
    page.goto(f"{site.prefect}/deployments/deployment/{deployment}/run")
    for name, value in {"preset": "digits", "Detach Reset": "false"}.items():
        field = page.locator("label", has_text=name).first
        field.locator("xpath=following::span[contains(@class, 'p-select-button__icon')][1]").click(force=True)
        page.locator(".p-select-option__text", has_text=value).first.click()
    page.locator("label", has_text="N Generations").first.locator("xpath=following::input[1]").fill("1")
    page.route("**/create_flow_run", lambda route: route.abort())
    with page.expect_request("**/create_flow_run") as sent:
        page.get_by_role("button", name="Submit").last.click()
    overrides = {"network": {"detach_reset": False}, "evolve": {"n_generations": 1}}
    expected = {"preset": "digits", "overrides": overrides, "stages": [], "force": False}
    assert sent.value.post_data_json["parameters"] == expected

"""What a person sees in MLflow after a run of the pipeline."""

import json
import sqlite3
from contextlib import closing
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.slow


def runs(site, level: str) -> list[str]:
    """Ids of the runs of a level."""
    with closing(sqlite3.connect(site.project / "mlflow.db")) as store:
        query = "select run_uuid from tags where key = 'gee.level' and value = ?"
        return [run_id for (run_id,) in store.execute(query, [level])]


@pytest.fixture(scope="module")
def summary(site) -> dict:
    return json.loads((site.project / "reports/summary.json").read_text())


def test_the_list_has_one_row_with_the_result_the_dataset_the_model_and_the_source(site, page, summary):
    page.goto(f"{site.mlflow}/#/experiments/1/runs?workflowType=machine_learning")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="results", exact=True).first.click()
    view = opened.value
    view.set_viewport_size({"width": 2600, "height": 1000})
    expect(view.get_by_role("link", name="digits cifarnet g=28 ste")).to_have_count(1)
    numbers = (f"{summary['test_accuracy']:g}", str(summary["parameters"]))
    for text in ("digits (", "pipelines.cli flow run", "gee-digits-cifarnet-g28", *numbers):
        expect(view.get_by_text(text).first).to_be_visible()


def test_the_page_of_a_run_has_its_result_in_words_its_numbers_and_all_parameters(site, page):
    (run,) = runs(site, "pipeline")
    page.goto(f"{site.mlflow}/#/experiments/1/runs/{run}")
    for text in ("accuracy at noise r = 0.5", "energy_with_decoding_mj", "evolve.n_generations", "train.epochs"):
        expect(page.get_by_text(text, exact=True).first).to_be_visible()


def test_candidates_are_compared_by_genes_and_fitness_with_their_durations(site, page):
    found = runs(site, "candidate")
    assert len(found) > 6
    page.goto(f"{site.mlflow}/#/compare-runs?runs={quote(json.dumps(found))}&experiments={quote(json.dumps(['1']))}")
    for text in ("gen0-cand0", "Duration:", "omega_O", "fitness"):
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    assert not page.get_by_text("0ms", exact=True).count()


def test_the_page_of_the_model_says_what_it_is_and_how_to_use_it(site, page):
    page.goto(f"{site.mlflow}/#/models/gee-digits-cifarnet-g28")
    expect(page.get_by_text("champion").first).to_be_visible()
    page.goto(f"{site.mlflow}/#/models/gee-digits-cifarnet-g28/versions/1")
    expect(page.get_by_text("A spiking network whose weights are grown from 28 genes").first).to_be_visible()
    expect(page.get_by_text("mlflow models serve").first).to_be_visible()

"""The results in git are whole: those of one run with the params.yaml beside them, small, and all that the plots need."""

import csv
import functools
import hashlib
import json
import operator

import pytest

from pipelines.project.paths import LOCK, SUMMARY
from pipelines.project.safe_yaml import read_yaml
from pipelines.reporting.summary import read_summary
from pipelines.reporting.verdict import format_summary
from tests.project_copy import ROOT, run

PARAMS, DVC = (read_yaml(ROOT / name) for name in ("params.yaml", "dvc.yaml"))
TABLES = sorted(path for stage in DVC["stages"].values() for plot in stage.get("plots", []) for path in plot)


def lock() -> dict:
    return read_yaml(ROOT / LOCK)["stages"]


def columns(path: str) -> list[str]:
    with (ROOT / path).open(encoding="utf-8") as file:
        return next(csv.reader(file))


def test_the_summary_is_whole_and_belongs_to_the_params():
    found = json.loads((ROOT / SUMMARY).read_text())
    assert format_summary(read_summary(ROOT / SUMMARY)).renderables[-1].row_count >= 11
    searched = PARAMS["evolve"]["genes"]
    network = {"network": PARAMS["network"]["name"]} | {
        key: PARAMS["network"][key] for key in ("width", "n_genes") if key not in searched
    }
    others = {"dataset": PARAMS["prepare"]["dataset"], "variant": PARAMS["evolve"]["variant"], "seed": PARAMS["base"]["seed"]}
    assert found.items() >= (network | others).items()


def test_the_lock_is_that_of_a_run_with_the_params():
    assert set(lock()) == set(DVC["stages"])
    for name, stage in lock().items():
        keys = {key: key.split(".") for key in DVC["stages"][name]["params"]}
        assert stage["params"]["params.yaml"] == {
            key: functools.reduce(operator.getitem, parts, PARAMS) for key, parts in keys.items()
        }


def test_the_lock_names_the_contents_of_the_files_in_git():
    recorded = {out["path"]: out["md5"] for stage in lock().values() for out in stage["outs"]}
    for path in [str(SUMMARY), *TABLES]:
        assert recorded[path] == hashlib.md5((ROOT / path).read_bytes(), usedforsecurity=False).hexdigest(), path


def test_git_keeps_the_numbers_and_the_tables_of_the_plots_and_no_other_result():
    found = run(ROOT, "git", "ls-files", "reports", "models", "data").split()
    results = [path for path in found if not path.endswith("README.md")]
    assert results == sorted([str(SUMMARY), *TABLES])
    assert sum((ROOT / path).stat().st_size for path in results) < 1e6


@pytest.mark.parametrize("name", [name for plot in DVC["plots"] for name in plot])
def test_every_plot_has_its_columns_and_its_template(name):
    (plot,) = [plot[name] for plot in DVC["plots"] if name in plot]
    ((path, column),) = plot["y"].items()
    assert {plot["x"], column} <= set(columns(path))
    assert (ROOT / f".dvc/plots/{plot['template']}.json").is_file() or plot["template"] == "confusion_normalized"


def test_what_git_keeps_takes_no_stage_out_of_the_run_cache():
    """DVC restores no stage that has an uncached file among its `outs`; `metrics` and `plots` may be uncached."""
    assert all(isinstance(out, str) for stage in DVC["stages"].values() for out in stage.get("outs", []))
    kept = [options for stage in DVC["stages"].values() for plot in stage.get("plots", []) for options in plot.values()]
    kept += [options for stage in DVC["stages"].values() for metric in stage.get("metrics", []) for options in metric.values()]
    assert [options["cache"] for options in kept] == [False] * 8


def test_the_page_of_the_plots_loads_nothing_from_the_network():
    page = (ROOT / ".dvc/plots/page.html").read_text(encoding="utf-8")
    assert "html_template = plots/page.html" in (ROOT / ".dvc/config").read_text()
    assert "{plot_divs}" in page
    assert "{scripts}" not in page  # DVC's links to a server
    assert page.count("<script>/* vega") == 3
    assert not any(f"<{tag}" in page for tag in ("link ", "script src"))

"""Cells run in parallel on an engine; failures, kills and lost GPUs."""

import errno
import os
import re
import signal
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from gee_core.errors import InputError
from pipelines.engines import pools
from pipelines.studies import study
from pipelines.studies.cell import Cell, read_result


def run_cells(cells, folder, jobs=1) -> dict[str, dict | str]:
    """Results and errors by key, in order of completion."""
    return {cell.key: outcome for cell, outcome in study.run_cells(cells, folder, jobs, "abc")}


@pytest.fixture
def cells(make_params):
    def make(*seeds, **sections):
        made = [Cell("grid", {"seed": str(s)}, make_params(base={"seed": s}, **sections), ("evaluate",)) for s in seeds]
        return [replace(cell, key=f"key{cell.params.base.seed}") for cell in made]

    return make


@pytest.fixture
def run_by(monkeypatch, tmp_path):
    """Replaces the work of a cell; the processes are forked, so that they know the replacement."""

    def replace_work(function):
        monkeypatch.setattr(study, "run_cell", function)
        monkeypatch.setattr(pools, "CONTEXT", get_context("fork"))
        monkeypatch.setenv("GEE_TEST_MARK", str(tmp_path / "mark"))

    return replace_work


def by_seed(cell):
    return {"status": "ok", "metrics": {"seed": cell.params.base.seed}}


def fails_at_2(cell):
    if cell.params.base.seed == 2:
        raise InputError("bad image", "replace it")
    return by_seed(cell)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_cell_runs_once_and_one_that_fails_stops_no_other(cells, run_by, tmp_path, jobs):
    run_by(fails_at_2)
    outcomes = run_cells(cells(0, 2, 1), tmp_path, jobs)
    assert outcomes.keys() == {"key0", "key1", "key2"} and outcomes["key2"] == "bad image: replace it"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key0.json", "key1.json"]
    result = read_result(tmp_path, "key1")
    assert result["params"].pop("base")["seed"] == 1
    assert {"key": "key1", "seed": 1, "commit": "abc", "status": "ok", "metrics": {"seed": 1}}.items() <= result.items()
    assert outcomes["key1"]["metrics"] == {"seed": 1}


def of_an_own_network():
    exec(compile("1 / 0", os.path.abspath("networks/mine.py"), "exec"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ZeroDivisionError("by\nzero"),
            r"studies/study\.py, line \d+ raises ZeroDivisionError: by zero: mend it and run",
        ),
        (of_an_own_network, r"networks/mine\.py, line 1 raises ZeroDivisionError: division by zero: mend it and run the study"),
        (torch.OutOfMemoryError("CUDA out of memory."), r"out of memory \(CUDA out of memory\.\): lower the batch_size"),
        (OSError(errno.ENOSPC, "no", "a.bin"), r"a\.bin: no space left on device: free some"),
    ],
    ids=["a bug", "an own network", "a full GPU", "a full disk"],
)
def test_an_error_of_a_cell_has_a_remedy(cells, run_by, tmp_path, monkeypatch, error, said):
    def fails(cell):
        if callable(error):
            error()
        raise error

    monkeypatch.chdir(tmp_path)
    run_by(fails)
    [line] = run_cells(cells(2), tmp_path).values()
    assert re.search(said, line)


def loses_its_gpu_once_and_dies_at_2(cell):
    mark = Path(os.environ["GEE_TEST_MARK"])
    if cell.params.base.seed == 0 and not mark.exists():
        mark.touch()
        raise RuntimeError("CUDA error: unspecified launch failure")
    if cell.params.base.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return by_seed(cell)


@pytest.mark.slow
def test_a_cell_whose_process_lost_its_gpu_runs_again_and_one_that_always_kills_it_fails(cells, run_by, tmp_path):
    run_by(loses_its_gpu_once_and_dies_at_2)
    outcomes = run_cells(cells(0, 2, 3), tmp_path / "cells", 2)
    assert (tmp_path / "mark").exists()
    assert outcomes["key2"].startswith("the worker died every time (out of memory?): run the study again with --jobs 1")
    assert sorted(path.name for path in (tmp_path / "cells").iterdir()) == ["key0.json", "key3.json"]


@pytest.mark.slow
def test_cells_on_workers_of_a_scheduler_give_the_same_results(cells, run_by, digits, tmp_path, monkeypatch):
    from tests.pipelines.engines.test_dask import cluster_of

    run_by(by_seed)
    wanted = [replace(cell, prepared=digits) for cell in cells(0, 1, 2)]
    with cluster_of(2) as cluster:
        monkeypatch.setenv("GEE_ENGINE", "dask")
        monkeypatch.setenv("GEE_DASK", cluster.scheduler_address)
        run_cells(wanted, tmp_path / "dask", None)
    monkeypatch.delenv("GEE_DASK")
    monkeypatch.setenv("GEE_ENGINE", "serial")
    run_cells(wanted, tmp_path / "serial", None)
    contents = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("dask", "serial")]
    assert contents[0] == contents[1]
    assert sorted(contents[0]) == ["key0.json", "key1.json", "key2.json"]


def test_cells_that_share_a_search_are_far_apart(cells, run_by, tmp_path):
    run_by(by_seed)
    first, again, later = cells(0, 1), cells(0, 1, robustness={"domain": "image"}), cells(0, train={"epochs": 7})
    keyed = [replace(cell, key=f"{cell.key}.{n}") for n, same in enumerate((first, again, later)) for cell in same]
    assert list(run_cells(sorted(keyed, key=lambda cell: cell.key), tmp_path)) == [
        "key0.0",
        "key1.0",
        "key0.1",
        "key1.1",
        "key0.2",
    ]

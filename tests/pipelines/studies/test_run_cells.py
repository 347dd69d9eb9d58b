"""Cells run in parallel on an engine; failures, kills and lost GPUs."""

import errno
import json
import os
import re
import signal
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from gee_core.errors import InputError
from pipelines.engines import processes
from pipelines.studies import study
from pipelines.studies.cell import Cell, read_result

DONE = "done"


def run_cells(cells, folder, jobs, notes=None) -> list[str]:
    """The lines of the error; ``notes`` receives the key of each cell with its notes, `DONE` at the end."""
    notes = [] if notes is None else notes
    on_note, on_done = (lambda cell, note: notes.append((cell.key, note))), (lambda cell, _: notes.append((cell.key, DONE)))
    return str(study.cells_error(cells, study.run_cells(cells, folder, jobs, "abc", on_note, on_done))).splitlines()


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
        monkeypatch.setattr(processes, "CONTEXT", get_context("fork"))
        monkeypatch.setenv("GEE_TEST_MARK", str(tmp_path / "mark"))

    return replace_work


def by_seed(cell, notify):
    notify("working")
    return {"status": "ok", "metrics": {"seed": cell.params.base.seed}}


def fails_at_2_and_above(cell, notify):
    if cell.params.base.seed == 2:
        raise InputError("bad image", "replace it")
    if cell.params.base.seed > 2:
        raise InputError("no space", "free some")
    return by_seed(cell, notify)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_cell_runs_once_and_errors_are_told_once_all_others_are_done(cells, run_by, tmp_path, jobs):
    run_by(fails_at_2_and_above)
    notes = []
    assert run_cells(cells(0, 2, 3, 4, 1), tmp_path, jobs, notes) == [
        "the cell seed = 2, seed 2: bad image: replace it",
        "the cell seed = 3, seed 3 and 1 more: no space: free some",
    ]
    assert ("key2", "failed: bad image: replace it") in notes
    assert sorted(key for key, note in notes if note == DONE) == ["key0", "key1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key0.json", "key1.json"]
    result = read_result(tmp_path, "key1")
    assert (result["metrics"], result["commit"], result["params"]["base"]["seed"]) == ({"seed": 1}, "abc", 1)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZeroDivisionError("by\nzero"), r"studies/study\.py, line \d+ raises ZeroDivisionError: by zero: mend it and run"),
        (torch.OutOfMemoryError("CUDA out of memory."), r"out of memory \(CUDA out of memory\.\): lower the batch_size"),
        (OSError(errno.ENOSPC, "no", "a.bin"), r"a\.bin: no space left on device: free some"),
    ],
    ids=["a bug", "a full GPU", "a full disk"],
)
def test_an_error_of_a_cell_has_a_remedy(cells, run_by, tmp_path, error, said):
    def fails(cell, notify):
        raise error

    run_by(fails)
    [line] = run_cells(cells(2), tmp_path, 1)
    assert re.search(rf"^the cell seed = 2, seed 2: .*{said}.*$", line)


def test_an_error_in_an_own_network_is_named_by_its_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = {"json": json}
    exec(compile("def forward(x):\n    return json.loads(x)", str(tmp_path / "networks/mine.py"), "exec"), module)
    try:
        module["forward"]("[")
    except ValueError as error:
        assert study._named(error).startswith("networks/mine.py, line 2 raises JSONDecodeError: Expecting value: ")


def loses_its_gpu_once_and_dies_at_2(cell, notify):
    mark = Path(os.environ["GEE_TEST_MARK"])
    if cell.params.base.seed == 0 and not mark.exists():
        mark.touch()
        raise RuntimeError("CUDA error: unspecified launch failure")
    if cell.params.base.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return by_seed(cell, notify)


@pytest.mark.slow
def test_a_cell_whose_process_lost_its_gpu_runs_again_and_one_that_always_kills_it_is_named(cells, run_by, tmp_path):
    run_by(loses_its_gpu_once_and_dies_at_2)
    notes = []
    [line] = run_cells(cells(0, 2, 3), tmp_path / "cells", 2, notes)
    assert (tmp_path / "mark").exists()
    assert line.startswith("the cell seed = 2, seed 2: the worker died every time (out of memory?): run the study again")
    assert sorted(path.name for path in (tmp_path / "cells").iterdir()) == ["key0.json", "key3.json"]
    assert sorted(key for key, note in notes if note == DONE) == ["key0", "key3"]


@pytest.mark.slow
def test_cells_on_workers_of_a_scheduler_give_the_same_results_and_notes(cells, run_by, digits, tmp_path, monkeypatch):
    from distributed import LocalCluster

    run_by(by_seed)
    wanted, notes = [replace(cell, prepared=digits) for cell in cells(0, 1, 2)], []
    local = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": 50, "memory_limit": None}
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", **local) as cluster:
        monkeypatch.setenv("GEE_ENGINE", "dask")
        monkeypatch.setenv("GEE_DASK", cluster.scheduler_address)
        run_cells(wanted, tmp_path / "dask", None, notes)
    monkeypatch.delenv("GEE_DASK")
    monkeypatch.setenv("GEE_ENGINE", "serial")
    run_cells(wanted, tmp_path / "serial", None)
    contents = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("dask", "serial")]
    assert contents[0] == contents[1]
    assert sorted(contents[0]) == ["key0.json", "key1.json", "key2.json"]
    assert sorted(notes) == sorted((f"key{seed}", note) for seed in range(3) for note in (DONE, "working"))


def test_cells_that_share_a_training_run_or_a_search_are_far_apart(cells):
    first, again = cells(0, 1), cells(0, 1, robustness={"domain": "image"})
    later = cells(0, train={"epochs": 7})  # the search of seed 0 again
    ordered = [
        (cell.params.base.seed, cell.params.train.epochs, cell.params.robustness.domain)
        for cell in study._apart([first[0], again[0], later[0], first[1], again[1]])
    ]
    assert [seed for seed, *_ in ordered] == [0, 1, 0, 0, 1]
    assert ordered[0][1:] == ordered[1][1:] == (4, "normalised") and ordered[2][1] == 7
    assert [domain for *_, domain in ordered[3:]] == ["image", "image"]

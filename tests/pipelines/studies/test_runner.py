import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gee_core.errors import InputError
from gee_core.storage.json_object import seal
from pipelines.runtime import worker_process
from pipelines.studies import runner
from pipelines.studies.cell import Cell
from pipelines.studies.runner import read_result

DONE = "done"
EARLIER = json.dumps(seal({"status": "ok", "metrics": {}, "commit": None}))
"""A result of an earlier run."""


def run_cells(cells, folder, jobs, commit, notes=None) -> None:
    """`runner.run_cells`; ``notes`` receives the key of each cell with its notes, `DONE` at the end."""
    notes = [] if notes is None else notes
    runner.run_cells(
        cells,
        folder,
        jobs,
        commit,
        lambda cell, note: notes.append((cell.key, note)),
        lambda cell, _: notes.append((cell.key, DONE)),
    )


@pytest.fixture
def cells(make_params):
    def make(*seeds, **sections):
        found = [Cell("grid", {"seed": str(s)}, make_params(base={"seed": s}, **sections), ("evaluate",)) for s in seeds]
        return [replace(cell, key=f"key{cell.params.base.seed}") for cell in found]

    return make


@pytest.fixture
def run_by(monkeypatch):
    """Replaces the work of a cell; the processes are forked, so that they know the replacement."""
    from multiprocessing import get_context

    def replace_work(function):
        monkeypatch.setattr(runner, "run_cell", function)
        monkeypatch.setattr(worker_process, "CONTEXT", get_context("fork"))

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


def dies_at_2(cell, notify):
    if cell.params.base.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return by_seed(cell, notify)


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_cell_without_a_result_runs_once_and_is_reported(cells, run_by, tmp_path, jobs):
    run_by(by_seed)
    wanted, notes = cells(0, 1, 2, 3), []
    (tmp_path / "key1.json").write_text(EARLIER)
    run_cells([*wanted, wanted[0]], tmp_path, jobs, "abc", notes)
    assert sorted(notes) == sorted((f"key{s}", note) for s in (0, 2, 3) for note in (DONE, "working"))
    assert read_result(tmp_path, "key2")["metrics"] == {"seed": 2}
    assert read_result(tmp_path, "key2")["commit"] == "abc"
    assert (tmp_path / "key1.json").read_text() == EARLIER


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_of_cells_are_raised_once_all_others_are_done(cells, run_by, tmp_path, jobs):
    run_by(fails_at_2_and_above)
    notes = []
    with pytest.raises(InputError) as found:
        run_cells(cells(0, 2, 3, 4, 1), tmp_path, jobs, None, notes)
    assert ("key2", "failed: bad image: replace it") in notes
    assert str(found.value).splitlines() == [
        "the cell seed = 2, seed 2: bad image: replace it",
        "the cell seed = 3, seed 3 and 1 more: no space: free some",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key0.json", "key1.json"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZeroDivisionError("by\nzero"), r"studies/runner\.py, line \d+ raises ZeroDivisionError: by zero: mend it and run"),
        (torch.OutOfMemoryError("CUDA out of memory."), r"out of memory \(CUDA out of memory\.\): run the study again"),
        (OSError(errno.ENOSPC, "no", "a.bin"), r"a\.bin: no space left on device: free some"),
    ],
    ids=["a bug", "a full GPU", "a full disk"],
)
def test_an_error_of_a_cell_has_a_remedy(cells, run_by, tmp_path, error, said):
    def fails(cell, notify):
        raise error

    run_by(fails)
    with pytest.raises(InputError, match=rf"^the cell seed = 2, seed 2: .*{said}.*$"):
        run_cells(cells(2), tmp_path, 1, None)


def test_what_a_cell_raises_is_named_by_the_last_line_of_our_code_or_of_an_own_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "def forward(x):\n    return json.loads(x)"
    module = {"json": json}
    exec(compile(code, str(tmp_path / "networks/mine.py"), "exec"), module)
    try:
        module["forward"]("[")
    except ValueError as error:
        assert str(runner._failure(error)).startswith("networks/mine.py, line 2 raises JSONDecodeError: Expecting value: ")


def test_ctrl_c_in_a_cell_is_none_of_its_failures(cells, run_by, tmp_path):
    def interrupted(cell, notify):
        raise KeyboardInterrupt

    run_by(interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_cells(cells(0, 1), tmp_path, 1, None)


def loses_its_gpu_once(cell, notify):
    mark = Path(os.environ["GEE_TEST_MARK"])
    if not mark.exists():
        mark.touch()
        raise RuntimeError("CUDA error: unspecified launch failure")
    return by_seed(cell, notify)


def dies_once_at_2(cell, notify):
    mark = Path(os.environ["GEE_TEST_MARK"])
    if cell.params.base.seed == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return by_seed(cell, notify)


@pytest.mark.parametrize("work", [loses_its_gpu_once, dies_once_at_2])
def test_a_cell_whose_process_died_or_lost_its_gpu_runs_again(cells, run_by, tmp_path, monkeypatch, work):
    run_by(work)
    monkeypatch.setenv("GEE_TEST_MARK", str(tmp_path / "mark"))
    notes = []
    run_cells(cells(0, 2, 3), tmp_path, 2, None, notes)
    assert (tmp_path / "mark").exists()
    assert [read_result(tmp_path, f"key{seed}")["metrics"]["seed"] for seed in (0, 2, 3)] == [0, 2, 3]
    assert sorted(key for key, note in notes if note == DONE) == ["key0", "key2", "key3"]


def test_a_cell_whose_process_always_dies_is_named_with_a_remedy_once_all_others_are_done(cells, run_by, tmp_path):
    run_by(dies_at_2)
    remedy = "run the study again with --jobs 1"
    with pytest.raises(InputError, match=rf"cell seed = 2, seed 2: the worker died every time .*: {remedy}"):
        run_cells(cells(0, 2, 3, 4), tmp_path, 2, None)
    assert sorted(path.name for path in tmp_path.glob("key*")) == ["key0.json", "key3.json", "key4.json"]


@pytest.mark.slow
def test_cells_on_workers_of_a_scheduler_give_the_same_results_and_notes(cells, run_by, digits, tmp_path, monkeypatch):
    from distributed import LocalCluster

    run_by(by_seed)
    wanted, notes = [replace(cell, prepared=digits) for cell in cells(0, 1, 2)], []
    local = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": 50, "memory_limit": None}
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", **local) as cluster:
        monkeypatch.setenv("GEE_ENGINE", "dask")
        monkeypatch.setenv("GEE_DASK", cluster.scheduler_address)
        run_cells(wanted, tmp_path / "dask", None, "abc", notes)
    monkeypatch.delenv("GEE_DASK")
    monkeypatch.setenv("GEE_ENGINE", "serial")
    run_cells(wanted, tmp_path / "serial", None, "abc")
    contents = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("dask", "serial")]
    assert contents[0] == contents[1]
    assert sorted(contents[0]) == ["key0.json", "key1.json", "key2.json"]
    assert sorted(notes) == sorted((f"key{seed}", note) for seed in range(3) for note in (DONE, "working"))


def test_cells_that_train_the_same_network_go_to_one_process_and_different_evolutions_come_first(cells):
    same, other = cells(0, 1), cells(0, 1, robustness={"domain": "image"})
    later = cells(0, train={"epochs": 7})  # the evolution of seed 0 again
    units = runner._units([*same, *other, *later])
    assert [[cell.params.robustness.domain for cell in unit] for unit in units] == [["normalised", "image"]] * 2 + [
        ["normalised"]
    ]
    assert [unit[0].params.base.seed for unit in units] == [0, 1, 0]


@pytest.mark.parametrize("damage", [lambda t: t[:-9], lambda t: t.replace('"seed": 0', '"seed": 1')], ids=["cut off", "a bit"])
def test_a_damaged_result_is_named_once_and_its_cell_alone_runs_again(damage, cells, run_by, tmp_path, caplog):
    run_by(by_seed)
    wanted, path = cells(0, 1), tmp_path / "key0.json"
    run_cells(wanted, tmp_path, 1, "abc")
    whole = path.read_text()
    assert damage(whole) != whole
    path.write_text(damage(whole))
    notes = []
    run_cells(wanted, tmp_path, 1, "abc", notes)
    assert {key for key, _ in notes} == {"key0"}
    assert path.read_text() == whole
    (message,) = caplog.messages
    assert message.startswith(f"{path}: damaged (")
    assert message.endswith("); it is recomputed")
    assert read_result(Path("nowhere"), "k") is None

"""A run on disk: what survives a kill, a power loss and damage, and which folder a run finds again."""

import hashlib
import os
import resource
import shutil
import signal
import threading
from pathlib import Path

import pytest

from gee_core.errors import InputError
from pipelines.runtime import run_folder
from pipelines.runtime.run_files import (
    HELD,
    ROWS,
    RUN,
    SENT,
    Record,
    Sent,
    append_row,
    read_record,
    read_rows,
    record_digest,
    write_record,
)
from pipelines.runtime.run_folder import RunFolder, folder_of, once, own_process, runs_root

ENTRIES = [{"n": n, "text": "σ\n{" * n, "nested": {"x": n / 3}} for n in range(3)]


@pytest.fixture
def rows(tmp_path):
    """A folder with rows."""
    for row in ENTRIES:
        append_row(tmp_path / "new/run", row)
    return tmp_path / "new/run"


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("meta.json", "genotype.json"):
        (tmp_path / name).write_text(name)
    return [Path("meta.json"), Path("genotype.json")]


def test_what_was_appended_is_read_back_in_order_without_a_warning(rows, caplog):
    assert read_rows(rows) == ENTRIES
    assert len((rows / ROWS).read_bytes().splitlines()) == len(ENTRIES)
    assert read_rows(rows / "missing") == []
    assert caplog.records == []


def test_rows_cut_off_anywhere_keep_the_whole_lines_and_take_up_the_next(rows):
    content = (rows / ROWS).read_bytes()
    for length in range(len(content)):
        (rows / ROWS).write_bytes(content[:length])
        append_row(rows, {"n": 9})
        whole = content[: length + 1].count(b"}\n") if content[length - 1 : length] == b"}" else content[:length].count(b"\n")
        assert read_rows(rows) == [*ENTRIES[:whole], {"n": 9}]


def test_damaged_rows_are_left_out_and_counted_in_a_warning(rows, caplog):
    lines = (rows / ROWS).read_bytes().splitlines(keepends=True)
    no_rows = b"\xff\xfe\x00\nnull\n" + b"[" * 10_000 + b"\n"
    (rows / ROWS).write_bytes(lines[0] + lines[1].replace(b"x", b"\xf8") + no_rows + lines[2][:20])
    assert read_rows(rows) == ENTRIES[:1]
    assert caplog.messages == [f"{rows / ROWS}: 5 of 6 lines damaged; what they recorded is recomputed"]


def test_a_row_is_on_disk_before_append_returns(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (flushed.append(os.fstat(handle).st_ino), fsync(handle)))
    append_row(tmp_path, {"n": 1})
    path = tmp_path / ROWS
    assert flushed == [path.stat().st_ino, tmp_path.stat().st_ino]  # the new name too
    append_row(tmp_path, {"n": 2})
    assert flushed[2:] == [path.stat().st_ino]


def test_a_full_disk_is_one_message_and_the_rows_before_stay(rows):
    path = rows / ROWS
    before, size = path.read_bytes(), path.stat().st_size
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, old[1]))
    try:
        with pytest.raises(InputError, match=r"rows\.jsonl: cannot be written \(file too large\): raise the limit"):
            append_row(rows, {"n": 5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes().startswith(before)
    append_row(rows, {"n": 6})
    assert read_rows(rows) == [*ENTRIES, {"n": 6}]


def test_a_record_comes_back_with_numbers_that_are_not_finite(tmp_path):
    record = Record(level="stage", metrics={"a": float("inf"), "b": 1.5}, status="FINISHED")
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    (tmp_path / RUN).write_text((tmp_path / RUN).read_text()[:20])
    assert read_record(tmp_path) is None


def test_all_that_a_result_depends_on_is_in_its_key(make_params, inputs):
    params, slower = make_params(), make_params(train={"lr": 0.001})
    folders = [folder_of("train", [params.base, params.train], inputs)]
    assert folders[0].parent == runs_root() == Path(".scratch/runs")
    again = make_params()
    assert folder_of("train", [again.base, again.train], inputs) == folders[0]
    folders.append(folder_of("train", [params.base, slower.train], inputs))
    folders.append(folder_of("evolve", [params.base, params.train], inputs))
    folders.append(folder_of("train", [params.base, params.train], inputs[:1]))
    folders.append(folder_of("train", [params.base, params.train], inputs, extra="x"))
    inputs[1].write_text("another genotype")
    folders.append(folder_of("train", [params.base, params.train], inputs))
    assert len({folder.name.rpartition("-")[2] for folder in folders}) == 6


def test_an_edit_of_the_code_that_dvc_yaml_lists_gives_another_key(make_params, inputs, tmp_path, monkeypatch):
    for part in ("gee_core", "pipelines"):
        shutil.copytree(run_folder.CHECKOUT / part, tmp_path / "copy" / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(run_folder.CHECKOUT / "dvc.yaml", tmp_path / "copy")
    monkeypatch.setattr(run_folder, "CHECKOUT", tmp_path / "copy")
    for edited, counts in (("gee_core/training/loop.py", True), ("pipelines/train.py", True), ("pipelines/evolve.py", False)):
        before = folder_of("train", [make_params().train], inputs)
        with (tmp_path / "copy" / edited).open("a") as file:
            file.write("# edited\n")
        assert (folder_of("train", [make_params().train], inputs) != before) == counts


def open_run(entry: str = "one", store: str = "") -> RunFolder:
    """A run of the stage train in an execution."""
    record = Record(level="stage", stage="train", above=entry, process=own_process(), store=store)
    return RunFolder(runs_root() / f"train-of-{entry}", record)


def run(folder: Path, name: str, work: str = "", entry: str = "one", store: str = "", finished: bool = True) -> set[str]:
    """The names of the files that a run finds in ``folder``; it leaves one of its own."""
    opened = open_run(entry, store)
    with opened.at_work_in(folder, work):
        found = {path.name for path in folder.iterdir()} - {HELD, RUN, SENT}
        (folder / name).touch()
        if finished:
            Path("metrics.json").write_text("{}")
            opened.finish(Path("metrics.json"))
    return found


def let_dvc_know() -> None:
    Path("dvc.lock").write_text(f"  md5: {hashlib.md5(b'{}').hexdigest()}\n")


def test_a_finished_run_is_kept_until_dvc_knows_its_result_or_another_is_run(inputs):
    folder = runs_root() / "train-a"
    assert run(folder, "first", finished=False) == set()
    assert run(folder, "second") == {"first"}
    assert run(folder, "third") == {"first", "second"}
    let_dvc_know()
    assert run(folder, "fourth") == set()
    run(folder.with_name("train-b"), "other")
    assert [path.name for path in runs_root().iterdir()] == ["train-b"]


def test_a_run_with_other_values_begins_with_what_the_last_one_left(inputs):
    folder = runs_root() / "evolve-a"
    assert run(folder, "scores", "3 generations") == set()
    let_dvc_know()
    assert run(folder, "scores", "4 generations", finished=False) == {"scores"}  # DVC knows of the other one
    assert run(folder, "scores", "4 generations") == {"scores"}  # it was interrupted
    assert run(folder, "scores", "4 generations") == set()  # it is to be recomputed
    assert run(folder, "scores", "3 generations") == {"scores"}


def test_what_mlflow_has_to_get_of_a_finished_run_is_kept_from_the_next_one(inputs):
    folder = runs_root() / "train-a"
    run(folder, "first", entry="one", store="http://away")
    run(folder.with_name("train-b"), "other", entry="two", store="http://away")
    assert folder.is_dir()
    let_dvc_know()
    assert run(folder, "second", entry="three", store="http://away") == set()
    names = {read_record(path).entry: {file.name for file in path.iterdir()} for path in runs_root().iterdir()}
    assert names["one/train-a"] == {"first", RUN} and names["three/train-a"] == {"second", RUN, HELD}
    for path in runs_root().iterdir():
        (path / SENT).write_text(Sent(digest=record_digest(path)).model_dump_json())
    run(folder.with_name("train-c"), "last")
    assert [path.name for path in runs_root().iterdir()] == ["train-c"]


def test_an_interrupted_run_and_one_that_is_at_work_are_kept(inputs):
    folder, other = runs_root() / "train-a", runs_root() / "train-b"
    run(folder, "state", finished=False)
    run(other, "state", finished=False)
    assert folder.is_dir()
    run(folder, "state")
    with open_run().at_work_in(other):
        run(runs_root() / "train-c", "state")
        assert other.is_dir() and not folder.is_dir()


def test_copies_of_a_project_and_the_original_share_their_runs(make_params, inputs, tmp_path, monkeypatch):
    folders = [runs_root().absolute()]
    for name in ("tmpx1", "tmpx2"):
        copy = tmp_path / ".dvc/tmp/exps/standalone" / name
        copy.mkdir(parents=True)
        monkeypatch.chdir(copy)
        folders.append(runs_root())
    assert folders == [folders[0]] * 3


def test_a_run_waits_for_another_with_its_key(inputs, monkeypatch):
    folder, waits, found = runs_root() / "train-a", threading.Event(), []
    monkeypatch.setattr(run_folder.console, "print", lambda *text, **_: waits.set())

    def second():
        with open_run().at_work_in(folder):
            found.append((folder / "state").exists())

    thread = threading.Thread(target=second)
    with open_run().at_work_in(folder):
        thread.start()
        waits.wait()
        (folder / "state").touch()
    thread.join()
    assert found == [True]


def test_a_point_that_an_interrupted_attempt_has_noted_is_not_added_again(inputs):
    for _ in range(2):
        opened = open_run()
        with opened.at_work_in(runs_root() / "train-a"):
            opened.point(1, {"loss": 0.5})
            opened.point(2, {"loss": 0.5})
    assert [(row["step"], row["metrics"]) for row in read_rows(opened.path)] == [(1, {"loss": 0.5}), (2, {"loss": 0.5})]


def test_once_computes_again_only_what_is_missing(inputs):
    folder, calls = runs_root() / "step-a", []

    def compute():
        calls.append(len(calls))
        (folder / "files/work").mkdir(parents=True)
        (folder / "network").touch()
        return {"n": calls[-1], "rows": [{"x": None}]}

    first = once(folder, compute)
    assert once(folder, compute) == first == {"n": 0, "rows": [{"x": None}]}
    assert not (folder / "files/work").exists()
    (folder / "network").unlink()
    assert once(folder, compute)["n"] == 1
    (folder / RUN).write_text("{")
    assert once(folder, compute)["n"] == 2

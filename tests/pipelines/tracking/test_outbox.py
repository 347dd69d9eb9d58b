import json
from pathlib import Path

import pytest

from pipelines.tracking import outbox
from pipelines.tracking.outbox import Outbox, one_at_a_time, outbox_root


@pytest.fixture
def box(tmp_path) -> Outbox:
    return Outbox.new(tmp_path, "evolve")


def test_two_outboxes_of_one_stage_share_nothing(tmp_path):
    assert Outbox.new(tmp_path, "evolve").folder != Outbox.new(tmp_path, "evolve").folder


def test_entries_are_numbered_on_after_it_was_opened_again(box):
    for kind in ("open", "log"):
        box.append(box.entry(kind, value=1.5))
    again = Outbox(box.folder)
    again.append(again.entry("close"))
    assert [(entry["n"], entry["kind"]) for entry in again.entries()] == [(0, "open"), (1, "log"), (2, "close")]
    assert again.entries()[1]["value"] == 1.5


def test_what_is_written_refused_and_made_is_known_after_it_was_opened_again(box):
    first, second = box.entry("open"), box.entry("log")
    box.append(first), box.append(second)
    box.note_refused(first, "no"), box.note_refused(second, "never")
    box.note_id("run", "abc"), box.note_written(first)
    again = Outbox(box.folder)
    assert (again.written, again.refused, again.ids) == ({0}, {1: "never"}, {"run": "abc"})
    assert [entry for entry in again.entries() if entry["n"] not in again.written] == [second]


@pytest.mark.parametrize("size", [10, 2_000_000], ids=["copied", "linked"])
def test_a_kept_file_stays_as_it_was_when_the_file_is_replaced_or_gone(box, tmp_path, size):
    path, new = tmp_path / "network.safetensors", tmp_path / "new"
    path.write_bytes(b"a" * size)
    kept = box.folder / box.keep(path)
    new.write_bytes(b"b")
    new.replace(path)
    path.unlink()
    assert kept.name == path.name
    assert kept.read_bytes() == b"a" * size


def test_a_small_file_that_is_edited_in_place_is_kept_as_it_was(box, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("seed: 0")
    kept = box.folder / box.keep(path)
    with path.open("r+") as file:
        file.write("seed: 1")
    assert kept.read_text() == "seed: 0"


def test_kept_files_go_once_they_are_uploaded_and_files_of_the_user_never(box, tmp_path):
    path = tmp_path / "mine" / "plot.svg"
    path.parent.mkdir()
    path.write_text("<svg/>")
    kept = box.keep(path)
    box.note_written(box.entry("artifact", files=[kept, str(path)]))
    assert path.exists() and not (box.folder / kept).exists()
    hostile = "../../mine/plot.svg"
    box.note_written(box.entry("artifact", files=[hostile]))
    assert path.exists()


def test_files_of_one_name_do_not_replace_each_other(box, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(name))
    kept = [box.keep(tmp_path / name / "metrics.json") for name in ("a", "b")]
    assert [json.loads((box.folder / place).read_text()) for place in kept] == ["a", "b"]


def test_a_file_system_without_links_gets_a_copy(box, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(outbox.os, "link", refuse)
    path = tmp_path / "large"
    path.write_bytes(b"a" * 2_000_000)
    assert (box.folder / box.keep(path)).read_bytes() == path.read_bytes()


def test_the_outboxes_of_dvcs_temporary_copies_lie_in_the_project(tmp_path, monkeypatch):
    copy = tmp_path / ".dvc/tmp/exps/tmpx1"
    copy.mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml"):
        (copy / name).touch()
    monkeypatch.chdir(copy)
    assert outbox_root() == tmp_path / ".scratch/tracking"


def test_only_one_is_inside_at_a_time_and_the_next_comes_in_after_it(tmp_path):
    with one_at_a_time(tmp_path, "store", wait=False) as first:
        with one_at_a_time(tmp_path, "store", wait=False) as second:
            assert (first, second) == (True, False)
        with one_at_a_time(tmp_path, "replay", wait=False) as other:
            assert other
    with one_at_a_time(tmp_path, "store", wait=False) as again:
        assert again


def test_a_folder_that_cannot_be_written_to_locks_nobody_out(tmp_path):
    (tmp_path / "file").write_text("")
    with one_at_a_time(Path(tmp_path / "file" / "below"), "store") as alone:
        assert alone

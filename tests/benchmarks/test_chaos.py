import random

import pytest

from benchmarks.chaos import Count, chaos, compare_records
from benchmarks.chaos_project import SMALL_STUDY, Journals, spoil
from pipelines.runtime.run_files import append_row, read_rows
from tests.running import wait_until


@pytest.mark.slow
def test_a_killed_study_ends_in_the_same_bytes_with_nothing_lost_or_done_twice(tmp_path):
    count = chaos([SMALL_STUDY], kills=1, seed=1, damage=False, folder=tmp_path)
    assert (count.kills, count.failed, count.stubborn) == (1, 0, 0)
    assert (count.lost, count.twice, count.other) == (0, 0, [])
    assert count.equal >= len(SMALL_STUDY.results)


def records(*versions):
    return {"journal": [[{"place": [0, index], "seconds": s} for index, s in version] for version in versions]}


@pytest.mark.parametrize(
    ("found", "lost", "twice"),
    [
        (records([(0, 1.0), (1, 1.0), (1, 2.0)]), 0, 1),
        (records([(0, 1.0)], [(0, 1.0), (1, 1.0)]), 0, 0),  # mended
        (records([(0, 1.0)], [(0, 3.0), (1, 1.0)]), 0, 1),
        ({}, 2, 0),
    ],
)
def test_what_is_lost_and_what_is_done_twice_is_counted(found, lost, twice):
    count = Count()
    compare_records(found, records([(0, 9.0), (1, 9.0)]), count)
    assert (count.lost, count.twice) == (lost, twice)


def test_a_journal_is_seen_to_its_end_although_it_is_removed(tmp_path):
    path = tmp_path / "project/.scratch/runs/evolve-key/rows.jsonl"
    with Journals(tmp_path / "project", tmp_path / "links") as journals:
        append_row(path.parent, {"place": 1})
        wait_until(journals.records)
        append_row(path.parent, {"place": 2})
        append_row(path.parent, {"step": 2})  # no candidate
        path.unlink()
    assert list(journals.records().values()) == [[[{"place": 1}, {"place": 2}]]]


def test_damage_hits_a_record_or_a_state_and_nothing_else(tmp_path):
    draw = random.Random(0)
    assert not spoil(tmp_path, draw)
    path = tmp_path / ".scratch/runs/evolve-key/rows.jsonl"
    append_row(path.parent, {"n": 1})
    before = path.read_bytes()
    assert spoil(tmp_path, draw)
    assert sum(a != b for a, b in zip(before, path.read_bytes(), strict=True)) == 1
    assert read_rows(path.parent) == []

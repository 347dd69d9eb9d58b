import os
import resource
import signal

import pytest

from gee_core.errors import InputError
from pipelines.runtime import journal

ENTRIES = [{"n": n, "text": "σ\n{" * n, "nested": {"x": n / 3}} for n in range(3)]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "new" / "journal.jsonl"
    for values in ENTRIES:
        journal.append(path, values)
    return path


def test_what_was_appended_is_read_back_in_order_without_a_warning(path, caplog):
    assert journal.read(path) == ENTRIES
    assert len(path.read_bytes().splitlines()) == len(ENTRIES)
    assert journal.read(path.with_name("missing")) == []
    assert caplog.records == []


def test_a_flip_anywhere_loses_no_line_but_those_that_it_touches(path):
    content = path.read_bytes()
    for at in range(0, len(content), 3):
        number = content[:at].count(b"\n")
        touched = ENTRIES[number : number + (2 if content[at : at + 1] == b"\n" else 1)]
        for bit in (0, 7):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
            found = journal.read(path)
            assert [v for v in found if v not in ENTRIES] == []
            assert [v for v in ENTRIES if v not in found] in ([], touched)


def test_a_file_cut_off_anywhere_keeps_the_whole_lines_and_takes_up_the_next(path):
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        journal.append(path, {"n": 9})
        whole = content[: length + 1].count(b"}\n") if content[length - 1 : length] == b"}" else content[:length].count(b"\n")
        assert journal.read(path) == [*ENTRIES[:whole], {"n": 9}]


def test_damaged_lines_are_counted_in_a_warning(path, caplog):
    lines = path.read_bytes().splitlines(keepends=True)
    never_appended = b'\xff\xfe\x00\nnull\n{"n": 1}\n{"check": {}}\n' + b"{" * 10_000 + b"\n"
    path.write_bytes(lines[0] + lines[1].replace(b"0.3333", b"0.3334") + never_appended + lines[2][:20])
    assert journal.read(path) == ENTRIES[:1]
    (warning,) = caplog.messages
    assert warning == f"{path}: 7 of 8 lines damaged; what they recorded is recomputed"


def test_an_entry_is_on_disk_before_append_returns(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (flushed.append(os.fstat(handle).st_ino), fsync(handle)))
    path = tmp_path / "journal"
    journal.append(path, {"n": 1})
    assert flushed == [path.stat().st_ino, tmp_path.stat().st_ino]  # the new name too
    journal.append(path, {"n": 2})
    assert flushed[2:] == [path.stat().st_ino]


def test_a_full_disk_is_one_message_and_the_lines_before_stay(path):
    before, size = path.read_bytes(), path.stat().st_size
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, old[1]))
    try:
        with pytest.raises(InputError, match=r"journal\.jsonl: cannot be written \(file too large\): raise the limit"):
            journal.append(path, {"n": 5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes().startswith(before)
    journal.append(path, {"n": 6})
    assert journal.read(path) == [*ENTRIES, {"n": 6}]

import math
import os
import shutil

from pipelines.commands.gc.leftover import below, newest_change, tree_size


def test_what_goes_away_while_it_is_looked_at_is_left_out(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"0" * 10)
    paths = below(tmp_path)
    first = next(paths)
    (gone,) = {tmp_path / "a", tmp_path / "b"} - {first}
    shutil.rmtree(gone)
    assert [first, *paths] == [first, gone, first / "file"]
    assert tree_size(tmp_path) == 10


def test_a_change_of_nothing_is_never_old(tmp_path):
    assert newest_change(tmp_path / "missing") == math.inf
    assert tree_size(tmp_path / "missing") == 0


def test_a_change_of_a_file_deep_below_counts(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").touch()
    for path in [tmp_path, *below(tmp_path)]:
        os.utime(path, (100, 100))
    os.utime(tmp_path / "a/b/file", (200, 200))
    assert newest_change(tmp_path) == 200

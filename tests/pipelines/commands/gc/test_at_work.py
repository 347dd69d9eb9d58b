import os

import psutil
import pytest

from pipelines.commands.gc.at_work import at_work


class Process:
    def __init__(self, words: str, cwd: str, pid: int = 1):
        self.words, self.folder, self.pid = words.split(), cwd, pid

    def cmdline(self):
        if self.words == ["denied"]:
            raise psutil.AccessDenied(self.pid)
        return self.words

    def cwd(self):
        return self.folder


@pytest.mark.parametrize(
    ("words", "works"),
    [
        ("python -m pipelines.train", True),
        ("python -u -m pipelines.evolve", True),
        ("python /opt/bin/dvc repro", True),
        ("python -m dvc --wait-for-lock repro -s train", True),
        ("python /opt/bin/gee study run ablation", True),
        ("python -m pipelines.cli study run ablation", True),
        ("gee flow run", True),
        ("python -m prefect.engine", True),
        ("python /opt/bin/gee flow serve --cron x", False),
        ("python -m pipelines.cli gc --yes", False),
        ("python /opt/bin/gee study show ablation", False),
        ("python -m mlflow server", False),
        ("python -m prefect server start", False),
        ("vim pipelines/train.py", False),
        ("python -m", False),
        ("denied", False),
    ],
)
def test_who_is_at_work_is_known_by_the_command_line(words, works, tmp_path):
    found = at_work([Process(words, str(tmp_path), pid=7)], tmp_path)
    assert found == ([f"7 {words}"] if works else [])


def test_work_in_a_folder_below_counts_and_in_another_project_does_not(tmp_path):
    below, beside = tmp_path / "a/.dvc/tmp/exps/x", tmp_path / "ab"
    processes = [Process("python -m pipelines.train", str(folder), pid) for pid, folder in [(1, below), (2, beside)]]
    assert at_work(processes, tmp_path / "a") == ["1 python -m pipelines.train"]


def test_this_process_does_not_stand_in_its_own_way(tmp_path):
    assert at_work([Process("gee flow run", str(tmp_path), os.getpid())], tmp_path) == []

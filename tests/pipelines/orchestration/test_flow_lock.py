import threading

import pytest

from gee_core.errors import InputError
from pipelines.orchestration import flow_lock as module
from pipelines.orchestration.flow_lock import check_dvc_lock, flow_lock


def test_a_second_run_says_that_one_is_at_work_and_waits_for_its_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    heard, waits = [], threading.Event()
    monkeypatch.setattr(module, "say", lambda line: (heard.append(line), waits.set()))

    def second() -> None:
        with flow_lock() as has_waited:
            heard.append(f"goes on, {has_waited}")

    thread = threading.Thread(target=second)
    with flow_lock() as has_waited:
        assert not has_waited
        thread.start()
        assert waits.wait(600)
        heard.append("ends")
    thread.join()
    line = f"another run is at work in {tmp_path} (`gee status` names it); this one waits for its end"
    assert heard == [line, "ends", "goes on, True"]


LOCK = "schema: '2.0'\nstages:\n  first:\n    cmd: echo 1 > a\n"


@pytest.mark.parametrize("content", [LOCK[:20], "", LOCK[:-8].replace("cmd: e", "cmd"), "a: 1\n"])
def test_a_dvc_lock_that_dvc_cannot_read_is_named_with_the_command_that_helps(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "dvc.lock"
    check_dvc_lock()  # there is none yet
    path.write_text(content)
    with pytest.raises(InputError, match=r"^dvc\.lock: damaged: `git checkout dvc\.lock`"):
        check_dvc_lock()
    path.write_text(LOCK)
    check_dvc_lock()

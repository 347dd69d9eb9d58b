import os
import threading

import pytest

from gee_core.errors import InputError
from pipelines.orchestration.flow_lock import check_dvc_lock, flow_lock


def test_a_second_run_names_the_one_at_work_and_waits_for_its_end_or_is_refused(tmp_path):
    at_work = rf"^another run is at work in {tmp_path} \(process {os.getpid()} on .*\)"
    heard, waits = [], threading.Event()

    def second() -> None:
        with flow_lock(tmp_path, lambda line: (heard.append(line), waits.set())):
            heard.append("goes on")

    thread = threading.Thread(target=second)
    with flow_lock(tmp_path, None):
        with pytest.raises(InputError, match=f"{at_work}: wait for its end, or stop it$"), flow_lock(tmp_path, None):
            pass
        thread.start()
        assert waits.wait(600)
        thread.join(0.5)  # in which it would go on if it did not wait
        heard.append("ends")
    thread.join()
    line, *after = heard
    assert line.startswith(f"another run is at work in {tmp_path} (process {os.getpid()} on ")
    assert line.endswith("this one waits for its end") and after == ["ends", "goes on"]


LOCK = "schema: '2.0'\nstages:\n  first:\n    cmd: echo 1 > a\n"


@pytest.mark.parametrize("content", [LOCK[:20], ""])
def test_a_dvc_lock_that_was_cut_off_is_named_with_the_command_that_helps(content, tmp_path):
    path = tmp_path / "dvc.lock"
    check_dvc_lock(tmp_path)  # there is none yet
    path.write_text(content)
    with pytest.raises(InputError, match=r"^dvc\.lock: damaged: `git checkout dvc\.lock`"):
        check_dvc_lock(tmp_path)
    path.write_text(LOCK)
    check_dvc_lock(tmp_path)

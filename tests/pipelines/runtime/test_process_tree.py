import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gee_core.errors import InputError
from pipelines.runtime.process_tree import dvc_ancestor, file_lock, followed, is_gone, process_key
from tests.running import wait_until

ROOT = str(Path(__file__).resolve().parents[3])
STAGE = """
import time
from pipelines.runtime.process_tree import die_with_parent, exit_on_sigterm
exit_on_sigterm()
die_with_parent(interval=0.05)
try:
    print("up", flush=True)
    time.sleep(3600)
finally:
    time.sleep(0.3)
    open("ended", "w").close()
"""
OWNER = """
import sys
from pipelines.runtime.process_tree import exit_on_sigterm, followed
exit_on_sigterm()
with followed([sys.executable, "stage.py"]) as process:
    for line in process.stdout:
        print(line, end="", flush=True)
"""


def start(folder: Path, *command: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, env={**os.environ, "PYTHONPATH": ROOT}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "up\n"
    return process


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "owner.py").write_text(OWNER)
    return tmp_path


def end(process: subprocess.Popen) -> int:
    with process.stdout:
        return process.wait(timeout=600)


def stages_in(folder: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cwd", "status"]) if p.info["cwd"] == str(folder)]


def test_sigterm_runs_the_finally_blocks_even_when_it_comes_twice_and_exits_with_143(folder):
    process = start(folder, "stage.py")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert end(process) == 143
    assert (folder / "ended").exists()


@pytest.mark.parametrize(
    ("number", "others"), [(signal.SIGKILL, ""), (signal.SIGTERM, "sleep 3600 & "), (signal.SIGINT, "sleep 3600 & ")]
)
def test_nothing_is_left_of_a_group_when_its_owner_gets(folder, number, others):
    command = f'["sh", "-c", f"{others}exec {{sys.executable}} stage.py"]'
    (folder / "owner.py").write_text(OWNER.replace('[sys.executable, "stage.py"]', command))
    owner = start(folder, "owner.py")
    assert len(stages_in(folder)) == (3 if others else 2)
    owner.send_signal(number)
    end(owner)
    wait_until(lambda: not stages_in(folder))
    assert (folder / "ended").exists()


def test_a_command_on_the_terminal_that_gets_the_ctrl_c_too_ends_by_itself(folder):
    (folder / "dvc.py").write_text(
        "import time\ntry: print('up', flush=True); time.sleep(3600)\n"
        "except KeyboardInterrupt: time.sleep(0.5); open('freed', 'w').close()"
    )
    (folder / "gee.py").write_text(
        "import os, signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nos.setpgrp()\n"
        "from pipelines.runtime.process_tree import run_in_foreground\nrun_in_foreground([sys.executable, 'dvc.py'])"
    )
    gee = start(folder, "gee.py")
    os.killpg(gee.pid, signal.SIGINT)
    end(gee)
    assert (folder / "freed").exists()


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("torchrun", 'subprocess.run([sys.executable, "stage.py"])'),
        ("dvc", 'subprocess.run(f"{sys.executable} stage.py; :", shell=True)'),  # its shell lives on
    ],
)
def test_a_process_ends_when_torchs_launcher_or_dvc_above_it_is_killed(name, script, folder, monkeypatch):
    (folder / name).write_text(f"import subprocess, sys\n{script}")
    if name == "torchrun":
        for variable in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
            monkeypatch.setenv(variable, "1")
    above = start(folder, name, "repro")
    above.kill()
    wait_until(lambda: (folder / "ended").exists())
    end(above)
    wait_until(lambda: not stages_in(folder))


def test_a_process_started_by_hand_outlives_the_shell_that_started_it(folder):
    log = folder / "log"
    log.touch()  # the shell may name the process before that opens it
    shell = subprocess.Popen(
        ["sh", "-c", f"{sys.executable} stage.py > log 2>&1 & echo $!; read _"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ROOT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stage = psutil.Process(int(shell.stdout.readline()))
    wait_until(lambda: log.read_text() == "up\n")
    shell.communicate("")
    time.sleep(1)
    assert stage.is_running() and not (folder / "ended").exists()
    stage.terminate()
    wait_until(lambda: not stages_in(folder))


PRINTS = """
import os, sys, time
print("a", flush=True)
while not os.path.exists("go"):
    time.sleep(0.01)
print(os.environ["X"], file=sys.stderr)
sys.exit(3)
"""


def test_a_followed_process_gives_the_lines_of_both_streams_and_its_exit_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with followed([sys.executable, "-c", PRINTS], env={"X": "b"}) as process:
        assert process.stdout.readline() == "a\n"
        assert os.getpgid(process.pid) == process.pid  # the Ctrl-C of a terminal does not reach it
        Path("go").touch()
        assert process.stdout.read() == "b\n"
    assert process.returncode == 3


def test_a_process_is_gone_once_it_has_ended_and_one_of_another_machine_never_is():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    key = process_key(psutil.Process(process.pid))
    assert not is_gone(key)
    process.communicate()
    assert is_gone(key)
    assert not is_gone("elsewhere/" + key.split("/", 1)[1])


def test_a_reused_pid_makes_a_process_another_but_a_clock_that_jumps_does_not(monkeypatch):
    key = process_key(psutil.Process())
    earlier = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: earlier(process) + 86_400)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert process_key(psutil.Process()) == key
    assert not is_gone(key)
    host, pid, started = key.split("/")
    assert is_gone(f"{host}/{pid}/{int(started) - 3600}")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("dvc repro", True),
        ("python -m dvc --wait-for-lock repro -s train", True),
        ("python -m pipelines.orchestration.dvc repro", True),
        ("python /opt/bin/dvc exp exec-run --infofile x", True),
        ("dvc push", False),
        ("gee repro", False),
    ],
)
def test_dvc_is_known_by_its_command_line(monkeypatch, words, found):
    monkeypatch.setattr(psutil.Process, "parents", lambda self: [psutil.Process()])
    monkeypatch.setattr(psutil.Process, "cmdline", lambda self: words.split())
    assert bool(dvc_ancestor()) is found


HOLDER = """
import sys
from pathlib import Path
from pipelines.runtime.process_tree import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def test_whoever_does_not_wait_is_told_and_a_holder_that_is_killed_releases_the_lock(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with file_lock(path, wait=False) as held:
            assert not held
        with file_lock(path, wait=False) as held:  # the first try has not taken it away
            assert not held
        holder.kill()
        holder.wait()
        with file_lock(path) as held:
            assert held


def test_a_lock_that_cannot_be_made_is_bad_input(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file lies where a folder should be"), file_lock(tmp_path / "file/lock"):
        pass

"""What the output of one process becomes in Prefect: a task per stage with its state, logs and progress."""

from types import SimpleNamespace

import pytest

from pipelines.runtime.progress import Steps

SKIPPED = ["Stage 'one' didn't change, skipping"]
CACHED = ["Stage 'two' is cached - skipping run, checking out outputs"]
RAN = ["Running stage 'three':", "> python -m pipelines.train", "train 1/2 50 % 0:10 left", "Updating lock file 'dvc.lock'"]


@pytest.fixture
def sent(follow, monkeypatch):
    """The lines of the log and the calls that would make artifacts."""
    recorded = SimpleNamespace(lines=[], calls=[])

    def collect(name):
        def call(*arguments):
            recorded.calls.append((name, *arguments))
            return len(recorded.calls)

        return call

    for name in ("create_progress", "update_progress"):
        monkeypatch.setattr(follow.artifacts, f"{name}_artifact", collect(name))
    monkeypatch.setattr(follow, "get_run_logger", lambda: SimpleNamespace(info=recorded.lines.append))
    return recorded


@pytest.fixture
def followed(follow, sent, monkeypatch):
    """Follows a process that prints lines and ends with a code: its messages, the states by stage and the outcomes."""

    def run(lines: list[str], code: int = 0):
        states, outcomes = {}, {}

        def task(stage, lines, return_state):
            states[stage] = follow_stage(stage, lines)
            return states[stage]

        monkeypatch.setattr(follow, "follow_stage", task)
        process = SimpleNamespace(stdout=(f"{line}\n" for line in lines), wait=lambda: code, returncode=code)
        return follow.follow_process(process, outcomes)[1], states, outcomes

    follow_stage = follow.follow_stage.fn
    return run


def test_each_stage_is_a_task_whose_state_says_what_became_of_it(followed, sent):
    messages, states, outcomes = followed(["Building workspace index", *SKIPPED, *CACHED, *RAN])
    assert (messages, outcomes) == ([], {"one": "skipped", "two": "cached", "three": "ran"})
    assert [(state.name, state.is_completed()) for state in states.values()] == [
        ("Skipped", True),
        ("Cached", True),
        ("Completed", True),
    ]
    assert sent.lines == ["Building workspace index", *SKIPPED, *CACHED, *RAN]


def test_a_stage_begins_and_its_lines_are_logged_before_the_next_line_is_read(followed, sent):
    def lines():
        for line in [*SKIPPED, *RAN]:
            yield line
            assert sent.lines[-1] == line

    followed(lines())


WARNING = "WARNING: failed to run: python -m pipelines.train, exited with 1"
END = "ERROR: failed to reproduce 'three'"


@pytest.mark.parametrize(
    ("printed", "cause"),
    [
        (["train: error: a.npy: missing", "train: error: b.npy: missing", "more", WARNING], "train: error: b.npy: missing"),
        (["Traceback (most recent call last):", "  File a", "torch.OutOfMemoryError: 3 GiB"], "torch.OutOfMemoryError: 3 GiB"),
        (["cat: missing", f"{END}: failed to run: cat"], f"{END}: failed to run: cat"),
    ],
)
def test_a_stage_that_fails_is_a_failed_task_with_the_line_that_says_why(printed, cause, followed):
    messages, states, outcomes = followed([*SKIPPED, *RAN, *printed, *([] if END in printed[-1] else [WARNING, END])], 255)
    assert outcomes == {"one": "skipped", "three": "failed"}
    assert (states["three"].is_failed(), states["three"].message) == (True, f"stage three failed: {cause}")
    [message] = messages
    assert message.splitlines()[0] == states["three"].message and message.splitlines()[1] == RAN[0]


def test_stages_that_do_not_need_the_failed_one_are_what_they_are(followed):
    skipped = "WARNING: Stage 'five' will be skipped due to this failure"
    messages, _, outcomes = followed([*RAN, *map(str, range(20)), WARNING, skipped, "Running stage 'four':", END], 255)
    assert outcomes == {"three": "failed", "four": "ran"}
    [message] = messages
    assert message.splitlines() == [f"stage three failed: {WARNING}", *map(str, range(7, 20)), WARNING, skipped]  # the last


@pytest.mark.parametrize("before", [[], RAN])
def test_an_error_of_dvc_itself_is_its_message(before, followed):
    messages, *_ = followed([*before, "ERROR: no space"], 255)
    assert [message.splitlines()[0] for message in messages] == ["gee failed: ERROR: no space"]


def test_a_dvc_that_is_killed_fails_the_stage_that_it_ran(followed):
    messages, _, outcomes = followed([*SKIPPED, *RAN], -9)
    assert outcomes == {"one": "skipped", "three": "failed"}
    assert messages[0].splitlines()[0] == "stage three failed: ERROR: ended by signal 9"


def test_lines_of_the_progress_of_a_stage_move_that_of_the_flow_and_no_others(follow, sent):
    steps = Steps("cells", 8)
    steps.at(1.5, "best F 0.5")
    lines = [steps.line(), steps.line(ended=True), "train 1/2 50 % 0:10 left", "train 12/30 in words", "evaluate 1/2 50 % 0:10"]
    follow.show(lines)
    assert sent.calls == [
        ("create_progress", 19.0, "gee-cells", lines[0]),
        ("update_progress", 1, 19.0, lines[1]),
        ("create_progress", 50.0, "gee-train", lines[2]),
    ]


def test_a_server_that_does_not_answer_stops_no_stage(follow, sent, monkeypatch, caplog):
    def away(*_):
        raise ConnectionError("All connection attempts failed")

    monkeypatch.setattr(follow.artifacts, "create_progress_artifact", away)
    assert follow.show(["train 1/2 50 % 0:10 left"]) == "train 1/2 50 % 0:10 left"
    assert "an artifact of the flow run is missing: ConnectionError" in caplog.text

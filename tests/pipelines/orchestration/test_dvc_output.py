import pytest

from pipelines.orchestration.dvc_output import failure, is_hint, last_lines, outcomes, progress_in
from pipelines.runtime.progress import Steps

OUTPUT = """Stage 'prepare' didn't change, skipping
Stage 'evolve' is cached - skipping run, checking out outputs
Running stage 'train':
> python -m pipelines.train
train 12/30 41 % loss 0.310, accuracy 0.912, 1:29 left
Updating lock file 'dvc.lock'

To track the changes with git, run:

\tgit add dvc.lock

To enable auto staging, run:

\tdvc config core.autostage true
Use `dvc push` to send your updates to remote storage.
To apply the results of an experiment to your workspace run:

\tdvc exp apply <exp>
"""


def test_what_became_of_each_stage_is_read_from_dvcs_words():
    assert outcomes(OUTPUT) == {"prepare": "skipped", "evolve": "cached", "train": "ran"}
    assert outcomes("Data and pipelines are up to date.\n") == {}


def test_hints_for_people_at_a_terminal_are_left_out():
    left = [line for line in OUTPUT.splitlines() if not is_hint(line)]
    assert left == OUTPUT.splitlines()[:5]
    assert last_lines(OUTPUT * 4) == "\n".join((left * 4)[-15:])


def test_progress_is_read_from_the_lines_that_are_printed_and_from_no_others():
    steps = Steps("cells", 8)
    steps.at(1.5, "best F 0.5")
    assert progress_in(steps.line()) == ("cells", 19)
    steps.at(8)
    assert progress_in(steps.line(ended=True)) == ("cells", 100)
    for line in ("train 12/30 in words", "evaluate 1/2 50 % 0:10 so far", "> python -m pipelines.train", ""):
        assert progress_in(line) is None


DVC = "ERROR: failed to reproduce 'train': failed to run: python -m pipelines.train, exited with 1\n"


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        ("train: error: a.npy: missing\ntrain: error: b.npy: missing\nmore\n" + DVC, ": train: error: b.npy: missing"),
        (
            "Traceback (most recent call last):\n  File a\ntorch.OutOfMemoryError: 3 GiB\n" + DVC,
            ": torch.OutOfMemoryError: 3 GiB",
        ),
        (DVC, f": {DVC.strip()}"),
        ("cat: missing\n", ""),
    ],
)
def test_a_failure_names_the_line_that_says_why(output, cause):
    assert failure("stage train", 255, OUTPUT + output) == f"stage train failed (exit code 255){cause}"

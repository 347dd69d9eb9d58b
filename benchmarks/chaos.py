"""Whether a run that is killed again and again gives the same bytes, and loses or repeats nothing recorded. On digits.

    python -m benchmarks.chaos [--json] [--kills 40] [--seed 0] [--damage]

The pipeline (`gee run`) and a small study (`gee study run`) first run undisturbed. Then the pipeline, the pipeline from train
on, and the study take turns in copies of the project. At random moments their whole process group gets SIGKILL, sometimes
SIGTERM or SIGINT; the same command is repeated until it ends by itself. With --damage, after every third kill the newest
training state is cut off, or a byte of it or of a record is flipped.

Printed:
    kills           by signal, and by the stage that was hit
    resumed         kills after which the same command continued without an error
    lost            candidates whose record is gone, or that were never scored
    twice           candidates that were scored again although they had an intact record
    equal, other    number of result files that equal those of the undisturbed run; names of those that differ and of
                    temporary files that are left
    stubborn        SIGTERMs and SIGINTs after which a process still ran half a minute later
    damaged         files damaged, and warnings about them
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.chaos_project import (
    PIPELINE,
    SMALL_STUDY,
    TRAIN,
    Journals,
    Work,
    copy_project,
    left_over,
    make_project,
    results,
    spoil,
    start,
)

DELAYS = (1.0, 25.0)
"""Seconds, at least and at most, from the start of a command to its kill."""
SIGNALS = {signal.SIGKILL: 0.7, signal.SIGTERM: 0.15, signal.SIGINT: 0.15}
KILLS_PER_ROUND = 14
GRACE = 30.0
"""Seconds within which SIGTERM and SIGINT must end everything."""


@dataclass
class Count:
    """Totals over all rounds."""

    signals: collections.Counter = field(default_factory=collections.Counter)
    hit: collections.Counter = field(default_factory=collections.Counter)
    failed: int = 0
    stubborn: int = 0
    damaged: int = 0
    warnings: int = 0
    lost: int = 0
    twice: int = 0
    equal: int = 0
    other: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.signals.total()


def members(group: int) -> list[psutil.Process]:
    """Processes of a group that are still running."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def stage_of(group: int) -> str:
    """What a group is running: a stage, a study, or neither yet."""
    found = set()
    for process in members(group):
        with contextlib.suppress(psutil.Error):
            found |= {word.removeprefix("pipelines.") for word in process.cmdline() if word.startswith("pipelines.")}
            found |= {"study"} & set(process.cmdline())
    return min(found - {"cli"}, default="start")


def kill(process: subprocess.Popen, number: signal.Signals, count: Count) -> None:
    """Send ``number`` to the whole group and wait for its end; processes that survive get SIGKILL and are counted."""
    os.killpg(process.pid, number)
    deadline = time.monotonic() + GRACE
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
        process.poll()  # reaps it, else it stays a member
    if members(process.pid):
        count.stubborn += 1
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with contextlib.suppress(ProcessLookupError):  # DVC takes a killed process for a living one until init has reaped it
        while time.monotonic() < deadline + GRACE:
            os.killpg(process.pid, 0)
            time.sleep(0.05)


def run_to_the_end(work: Work, project: Path, kills: int, draw: random.Random, damage: bool, count: Count) -> None:
    """Run the command of ``work``, kill it at most ``kills`` times, and repeat it until it ends by itself."""
    path = project.parent / f"{project.name}.log"
    with path.open("ab") as log:
        for number in range(kills + 1):
            process = start(work, project, log)
            delay, name = draw.uniform(*DELAYS), draw.choices([*SIGNALS], [*SIGNALS.values()])[0]
            try:
                process.wait(delay if number < kills else None)
                break
            except subprocess.TimeoutExpired:
                where = stage_of(process.pid)
                kill(process, name, count)
            count.signals[name.name] += 1
            count.hit[where] += 1
            print(f"{count.kills:4} {name.name} in {where} after {delay:.1f} s", file=sys.stderr)
            if damage and count.kills % 3 == 0:
                count.damaged += spoil(project, draw)
    text = path.read_text(errors="replace")
    count.warnings += sum(": damaged" in line or "lines damaged" in line for line in text.splitlines())
    if process.returncode:
        count.failed += 1
        print(f"{work.name} ended with {process.returncode}:\n{text[-3000:]}", file=sys.stderr)


def compare(work: Work, project: Path, expected: dict[str, bytes], count: Count) -> None:
    """Count the results that equal those of the undisturbed run."""
    found = results(work, project)
    for name in work.results:
        if found.get(name) == expected[name]:
            count.equal += 1
        else:
            count.other.append(name)
    count.other += left_over(project)


def compare_records(records: dict[Path, list[list[dict]]], expected: dict[Path, list[list[dict]]], count: Count) -> None:
    """Count candidates without a record in the end, and candidates that were scored twice."""
    for path in {*records, *expected}:
        lines: dict[tuple, set[str]] = collections.defaultdict(set)
        for version in records.get(path, []):
            for values in version:
                lines[tuple(values["place"])].add(json.dumps(values))  # if it was scored again, its seconds differ
        last = {tuple(values["place"]) for values in records.get(path, [[]])[-1]}
        wanted = {tuple(values["place"]) for values in expected.get(path, [[]])[-1]}
        count.lost += len((wanted | set(lines)) - last)
        count.twice += sum(len(texts) - 1 for texts in lines.values())


def chaos(works: Sequence[Work], kills: int, seed: int, damage: bool, folder: Path) -> Count:
    """Run ``works`` undisturbed, then in turn with ``kills``; returns the totals."""
    draw, count = random.Random(seed), Count()
    undisturbed: list[tuple[dict[str, bytes], dict[Path, list[list[dict]]]]] = []
    reference = make_project(folder / "reference")
    for work in works:
        with Journals(reference, folder / f"journals-{len(undisturbed)}") as journals:
            run_to_the_end(work, reference, 0, draw, False, count)
        undisturbed.append((results(work, reference), journals.records()))
    if count.failed or any(set(found) != set(work.results) for (found, _), work in zip(undisturbed, works, strict=True)):
        raise SystemExit("the undisturbed run failed")
    for number in range(10 * kills):
        left = kills - count.kills
        if not left or count.failed:
            break
        work, (expected, records) = works[number % len(works)], undisturbed[number % len(works)]
        project = copy_project(reference, work, folder / str(number))
        with Journals(project, folder / f"{number}-journals") as journals:
            run_to_the_end(work, project, min(left, KILLS_PER_ROUND), draw, damage, count)
        compare(work, project, expected, count)
        compare_records(journals.records(), records, count)
        shutil.rmtree(project)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments, signals and damage")
    parser.add_argument("--damage", action="store_true", help="damage files after every third kill")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes background jobs and their children ignore it
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gee-chaos-") as folder:
        works = [PIPELINE, TRAIN, SMALL_STUDY]
        count = chaos(works, arguments.kills, arguments.seed, arguments.damage, Path(folder))
    minutes = round((time.monotonic() - begin) / 60, 1)
    outcome = {"kills": count.kills, "resumed": count.kills - count.failed, **vars(count), "minutes": minutes}
    for key, value in outcome.items():
        print(f"{key:10} {value}")
    if arguments.json:
        print(json.dumps(outcome))
    sys.exit(1 if count.failed or count.lost or count.twice or count.other else 0)


if __name__ == "__main__":
    main()

"""How long a run takes that has little to compute, beside the same run of an earlier commit. On digits, with tracking.

    python -m benchmarks.small_run [--json] [--commit 0d4f66f] [--rounds 3]

`gee run` of four candidates of two epochs and a training run of three, in clones of this repository: the last commit of this
folder and ``--commit``, with the Python and the packages that run this script. The two take turns. Each round has a seed of its
own, so that every stage runs; a round before the first fills the caches, Python's bytecode among them, and is not counted.
Nothing else should run.

Printed, medians of the rounds, for both commits:
    seconds         wall time of `gee run`
    cpu_seconds     of all its processes
    stages          wall time from the start of a stage to that of the next
    ratio           seconds of this commit over those of ``--commit``
    cpu_ratio       the same of cpu_seconds
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

from benchmarks.arguments import positive_int
from benchmarks.machine import cpu_name

ROOT = Path(__file__).resolve().parents[1]
SMALL: dict[str, dict] = {
    "evolve": {"n_generations": 1, "population_size": 4, "proxy_epochs": 2, "rescore": None},
    "train": {"epochs": 3, "warmup_epochs": 1},
}
UNSET = ("MLFLOW_TRACKING_URI", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
"""Environment variables that the runs do not inherit."""
STARTS = "Running stage '"
"""How DVC announces a stage."""


def clone(commit: str, folder: Path) -> Path:
    """A clone of this repository at ``commit``."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    subprocess.run(["git", "-C", folder, "checkout", "--quiet", commit], check=True)
    return folder


def set_params(project: Path, seed: int) -> None:
    """Write the small run with ``seed`` to params.yaml; keys that the commit does not know are left out."""
    yaml = YAML()
    values = yaml.load((project / "presets/digits.yaml").read_text(encoding="utf-8"))
    for section, keys in (SMALL | {"base": {"seed": seed}, "prepare": {"split_seed": seed}}).items():
        values[section].update({key: value for key, value in keys.items() if key in values[section]})
    with (project / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(values, file)


def run(project: Path) -> tuple[float, float, dict[str, float]]:
    """Seconds of `gee run`, of its processors, and of each stage."""
    env = {key: value for key, value in os.environ.items() if key not in UNSET}
    env |= {"GEE_TRACKING": "on", "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command, lines = [sys.executable, "-m", "pipelines.cli", "run"], []
    starts: dict[str, float] = {}
    with subprocess.Popen(
        command, cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            if line.startswith(STARTS):
                starts[line.removeprefix(STARTS).partition("'")[0]] = time.perf_counter()
    end, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"{project}: gee run failed\n{''.join(lines[-20:])}")
    ends = [*list(starts.values())[1:], end]
    stages = {name: last - first for (name, first), last in zip(starts.items(), ends, strict=True)}
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return end - start, cpu, stages


def measure(commit: str, rounds: int, folder: Path) -> dict:
    """Everything that is printed."""
    projects = {"this": clone("HEAD", folder / "this"), commit: clone(commit, folder / "other")}
    found: dict[str, list] = {name: [] for name in projects}
    for number in range(rounds + 1):
        for name, project in projects.items():
            set_params(project, number)
            measured = run(project)
            if number:
                found[name].append(measured)
                print(f"{number}/{rounds} {name} {measured[0]:.1f} s", file=sys.stderr)
    result: dict = {}
    for name, of_rounds in found.items():
        seconds, cpu, stages = zip(*of_rounds, strict=True)
        result[name] = {
            "seconds": round(statistics.median(seconds), 1),
            "cpu_seconds": round(statistics.median(cpu), 1),
            "stages": {stage: round(statistics.median(times[stage] for times in stages), 1) for stage in stages[0]},
        }
    for ratio, key in (("ratio", "seconds"), ("cpu_ratio", "cpu_seconds")):
        result[ratio] = round(result["this"][key] / result[commit][key], 3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    parser.add_argument("--commit", default="0d4f66f", help="the commit to compare with")
    parser.add_argument("--rounds", type=positive_int, default=3, help="runs of each commit that are counted")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments.commit, arguments.rounds, Path(folder))
    result["machine"] = f"{cpu_name()}, {os.cpu_count()} CPUs"
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<12} {value}")


if __name__ == "__main__":
    main()

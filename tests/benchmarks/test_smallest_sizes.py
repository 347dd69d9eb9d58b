"""The benchmarks that take seconds at their smallest size, run to the end; what they measure is not looked at."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from benchmarks.project_copy import ROOT

SMALLEST = {
    "decoding": "--size 2 --batch 1 --rounds 1",
    "energy_counts": "--images 20",
    "gene_file": "--width 0.0625 --genes 4 --size 16 --batch 1 --rounds 1",
    "paper_sizes": "",
    "processes_agree": "--seeds 1 --steps 2",
    "scaling": "--axis population --rounds 1",
    "stream_format": "--data {images} --steps 1 --seeds 1 --size 8 --rounds 1",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs_to_the_end(name, tmp_path):
    for part in ("train", "test"):
        for label in "ab":
            folder = tmp_path / "images" / part / label
            folder.mkdir(parents=True)
            for number in range(32):
                Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", *SMALLEST[name].format(images=tmp_path / "images").split()]
    environment = os.environ | {"GEE_COMPILE": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])

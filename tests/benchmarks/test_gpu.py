"""The command for a GPU, rehearsed on the CPU."""

import json
import sys

import pytest

from benchmarks import gpu


@pytest.mark.slow
def test_a_part_that_fails_leaves_the_others_their_results(monkeypatch, capsys):
    def make_step(case, name, device, made=gpu.make_step):
        if name == "plain":
            raise TypeError("a\nbug")
        return made(case, name, device)

    monkeypatch.setattr(gpu, "make_step", make_step)
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--minutes", "0", "--json"])
    gpu.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    steps = found["training_step, cifarnet"]
    assert steps["left_out"] == {"plain": "TypeError: a bug"}
    assert set(steps["images_per_second"]) == {"genetic", "spikingjelly_best", "conv_floor"}
    assert found["candidates, 2 processes"]["per_hour"] > 0 and found["training"]["images_per_second"] > 0

"""The command for a GPU, rehearsed on the CPU."""

import json
import sys

import pytest

from benchmarks import gpu


def test_spikingjelly_runs_the_implementation_that_it_is_asked_for():
    from spikingjelly._ops.lif import _selection

    before = _selection._requested, _selection._selections
    for name in ("torch", "triton"):
        with gpu.implementation(name):
            assert _selection._requested == name
            _selection._selections[0] = name
    with gpu.implementation("torch"):
        assert _selection._selections == {0: "torch"}
    assert (_selection._requested, _selection._selections) == before
    gpu._chosen.clear()


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
    assert set(steps["images_per_second"]) == {"genetic", "spikingjelly_torch", "conv_floor"}
    assert found["candidates, 2 processes"]["per_hour"] > 0 and found["training"]["images_per_second"] > 0

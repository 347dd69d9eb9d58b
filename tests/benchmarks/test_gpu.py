"""The command for a GPU, rehearsed on the CPU."""

import json
import sys
import time
from dataclasses import replace

import pytest
import torch

from benchmarks import gpu, gpu_steps
from benchmarks.gpu import TINY, Results, main, parameters, run
from benchmarks.gpu_runs import prepared_images, train
from benchmarks.gpu_steps import contenders, implementation, ratios
from gee_core.errors import InputError


def test_ratios_are_of_the_contenders_that_ran():
    seconds = {"genetic": 2.0, "plain": 1.0, "spikingjelly_torch": 8.0, "spikingjelly_triton": 3.0, "conv_floor": 0.5}
    assert ratios(seconds) == {
        "vs_spikingjelly_torch": 4.0,
        "vs_spikingjelly_triton": 1.5,
        "vs_best_of_spikingjelly": 1.5,
        "genetic_over_plain": 2.0,
        "over_conv_floor": 4.0,
    }
    assert ratios({"genetic": 2.0}) == {}


def test_spikingjelly_runs_the_implementation_that_it_is_asked_for():
    from spikingjelly._ops.lif import _selection

    before = _selection._requested, _selection._selections
    for name in ("torch", "triton"):
        with implementation(name):
            assert _selection._requested == name
            _selection._selections[0] = name
    with implementation("torch"):
        assert _selection._selections == {0: "torch"}
    assert (_selection._requested, _selection._selections) == before
    gpu_steps._chosen.clear()
    assert len(contenders("cuda")) == len(contenders("cpu")) + 2


def test_results_are_kept_and_not_mixed_with_those_of_another_device(tmp_path):
    about = {"device": "a", "torch": "1"}
    Results(tmp_path, about).put("candidates", {"1": {"per_hour": 3.0}, "2": {"failed": "no room"}})
    again = Results(tmp_path, about)
    assert (again.has("candidates", "1"), again.has("candidates", "2"), again.has("candidates", "4")) == (True, False, False)
    with pytest.raises(InputError, match="holds results of another device: choose another --state"):
        Results(tmp_path, about | {"device": "b"})
    (tmp_path / "results.json").write_text("[")
    with pytest.raises(InputError, match=r"results\.json: damaged"):
        Results(tmp_path, about)


@pytest.mark.slow
def test_a_second_call_goes_on_with_the_training_run(tmp_path):
    params = parameters("cpu", TINY)
    data = prepared_images(tmp_path / "prepared", params, None, 40)
    stopped = train(params, data, tmp_path / "states", time.monotonic())
    assert stopped["epochs"] == 0.8  # the first step behind the warm-up of three is the last
    assert stopped["images_per_second"] > 0
    assert train(params, data, tmp_path / "states", time.monotonic() + 600)["epochs"] == 3
    assert train(params, data, tmp_path / "states", 0.0)["images_per_second"] is None  # nothing is left


@pytest.mark.slow
def test_a_part_that_fails_leaves_the_others_their_results(tmp_path, monkeypatch, capsys):
    def fail(*arguments):
        raise TypeError("a\nbug")

    make_step = gpu_steps.make_step
    monkeypatch.setattr(
        gpu_steps, "make_step", lambda case, name, device: (fail if name == "plain" else make_step)(case, name, device)
    )
    monkeypatch.setattr("benchmarks.gpu.candidates_per_hour", fail)
    found = run("cpu", replace(TINY, n_images=40, counts=(2,)), 10, tmp_path)
    steps = found["training_step"]["cifarnet"]
    assert steps["left_out"] == {"plain": "TypeError: a bug"} and "genetic_over_plain" not in steps and "failed" not in steps
    assert set(steps["images_per_second"]) == {"genetic", "spikingjelly_torch", "conv_floor"}
    assert found["candidates"] == {"2": {"failed": "TypeError: a bug"}}
    assert found["training"]["epochs"] > 0
    assert "TypeError: a bug" in gpu.table(found)
    assert "TypeError" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_command_runs_and_a_second_call_measures_nothing_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "TINY", replace(TINY, counts=(2,)))
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--minutes", "60", "--state", str(tmp_path), "--json"])
    main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["about"]["torch"] == torch.__version__
    assert set(found["training_step"]["cifarnet"]["images_per_second"]) == set(contenders("cpu"))
    assert found["candidates"]["2"]["per_hour"] > 0
    assert found["training"]["epochs"] > 0

    def again(*arguments):
        raise AssertionError("measured again")

    for name in ("gpu_steps.measure", "candidates_per_hour"):
        monkeypatch.setattr(f"benchmarks.gpu.{name}", again)
    monkeypatch.setattr(sys, "argv", [argument for argument in sys.argv if argument != "--json"])
    main()
    assert "candidates per hour, 2 side by side" in capsys.readouterr().out

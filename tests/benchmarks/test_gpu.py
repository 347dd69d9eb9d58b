"""The command for a GPU, rehearsed on the CPU."""

import gc
import json
import sys
import time
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu, gpu_steps
from benchmarks.gpu import FULL, TINY, Results, main, parameters, run
from benchmarks.gpu_runs import prepared_images, train
from benchmarks.gpu_steps import contenders, implementation, measure, ratios
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
    assert ratios({"plain": 2.0, "spikingjelly_torch": 1.0}) == {}


class CompilerError(Exception):
    """As Triton's, which are no RuntimeError."""


def test_a_contender_that_fails_is_left_out_with_its_reason(monkeypatch):
    real = gpu_steps.make_step

    def make_step(case, name, device):
        if name == "plain":
            raise CompilerError("no\nroom")
        return real(case, name, device)

    monkeypatch.setattr(gpu_steps, "make_step", make_step)
    found = measure(TINY.cases["cifarnet"], "cpu", 1, 1)
    assert found["left_out"] == {"plain": "CompilerError: no room"}
    assert set(found["images_per_second"]) == {"genetic", "spikingjelly_torch", "conv_floor"}
    assert "genetic_over_plain" not in found
    assert "failed" not in found


class Circle:
    """Holds itself, as a CUDA graph of torch does."""

    def __init__(self):
        self.itself = self

    def step(self):
        raise RuntimeError("fails")


def test_what_a_contender_or_a_case_held_is_gone_before_the_next(tmp_path, monkeypatch):
    circles, held = weakref.WeakSet(), []

    def timed_step(*arguments):
        held.append(len(circles))
        circles.add(circle := Circle())
        return circle.step

    monkeypatch.setattr(gpu_steps, "timed_step", timed_step)
    monkeypatch.setattr(gpu_steps, "contenders", lambda device: ("genetic", "plain"))
    monkeypatch.setattr("benchmarks.gpu.gpu_tests.run_tests", lambda *arguments: {})
    monkeypatch.setattr("benchmarks.gpu.prepared_images", lambda *arguments: held.append(len(circles)))
    monkeypatch.setattr("benchmarks.gpu.train", lambda *arguments: {})
    gc.disable()
    try:
        run("cpu", replace(TINY, counts=()), 10, tmp_path)
    finally:
        gc.enable()
    assert held == [0, 0, 0]


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


def test_the_training_run_measures_no_randaugment():
    assert all(parameters("cpu", sizes).train.randaugment == 0 for sizes in (FULL, TINY))


def test_a_second_call_goes_on_with_the_training_run(tmp_path):
    params = parameters("cpu", TINY)
    data = prepared_images(tmp_path / "prepared", params, None, 40)
    assert len(data.train) == 40
    stopped = train(params, data, tmp_path / "states", time.monotonic())
    assert stopped["epochs"] == 0.8  # the first step behind the warm-up of three is the last
    assert stopped["images_per_second"] > 0
    whole = train(params, data, tmp_path / "states", time.monotonic() + 600)
    assert whole["epochs"] == 3
    assert whole["train_loss"] == train(params, data, tmp_path / "others", time.monotonic() + 600)["train_loss"]
    assert train(params, data, tmp_path / "states", 0.0)["images_per_second"] is None  # nothing is left


def test_a_part_that_fails_leaves_the_others_their_results(tmp_path, monkeypatch, capsys):
    def fail(*arguments):
        raise TypeError("a\nbug")

    for name in ("gpu_steps.measure", "candidates_per_hour"):
        monkeypatch.setattr(f"benchmarks.gpu.{name}", fail)
    monkeypatch.setattr(
        "benchmarks.gpu.gpu_tests.run_tests", lambda *arguments: {"outcomes": {}, "reasons": {}, "collected": 0}
    )
    found = run("cpu", replace(TINY, n_images=40, counts=(2,)), 10, tmp_path)
    assert found["training_step"] == {"cifarnet": {"failed": "TypeError: a bug"}}
    assert found["candidates"] == {"2": {"failed": "TypeError: a bug"}}
    assert found["training"]["epochs"] > 0
    shown = gpu.table(found)
    assert shown.count("TypeError: a bug") == 2
    assert "none ran of 0" in shown
    assert "TypeError" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_command_runs_and_a_second_call_measures_nothing_again(tmp_path, monkeypatch, capsys):
    one = "tests/cuda/test_fused_layer.py::test_spikes_and_gradients_are_those_of_the_cpu[plain]"
    monkeypatch.setattr(gpu, "TINY", replace(TINY, tests=one, counts=(2,)))
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--minutes", "60", "--state", str(tmp_path), "--json"])
    main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["about"]["torch"] == torch.__version__
    assert found["tests"]["outcomes"] == {one: "PASSED"}
    assert set(found["training_step"]["cifarnet"]["images_per_second"]) == set(contenders("cpu"))
    assert found["candidates"]["2"]["per_hour"] > 0
    assert found["training"]["epochs"] > 0

    def again(*arguments):
        raise AssertionError("measured again")

    for name in ("gpu_steps.measure", "gpu_tests.run_tests", "candidates_per_hour"):
        monkeypatch.setattr(f"benchmarks.gpu.{name}", again)
    monkeypatch.setattr(sys, "argv", [argument for argument in sys.argv if argument != "--json"])
    main()
    shown = capsys.readouterr().out
    assert "candidates per hour, 2 side by side" in shown
    assert "1 passed of 1" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            [],
            "benchmarks.gpu: torch sees no CUDA device: `--device cpu` rehearses the command",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
        (["--device", "cpu", "--minutes", "0"], "--minutes 0: give it more than 0"),
        (["--device", "cpu", "--data", "nowhere"], "nowhere: no such folder: name the folder with CIFAR-10 as --data"),
        (["--device", "cpu", "--state", "README.md"], "README.md: cannot be used ("),
    ],
)
def test_bad_input_gives_one_message(monkeypatch, arguments, message):
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert message in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_numbers_come_first_and_what_is_left_of_the_time_is_the_tests_and_then_the_training_runs(tmp_path, monkeypatch):
    calls = []

    def train(params, prepared, folder, deadline):
        calls.append(("training", round(deadline)))
        return {}

    def run_tests(target, device, known, log, seconds):
        calls.append(("tests", round(seconds)))
        return {"outcomes": {"a": "PASSED"}, "reasons": {}, "collected": 1 if known else 2}

    monkeypatch.setattr(gpu, "time", SimpleNamespace(monotonic=lambda: 0.0))
    monkeypatch.setattr("benchmarks.gpu.gpu_steps.measure", lambda *arguments: calls.append("training_step") or {})
    monkeypatch.setattr("benchmarks.gpu.candidates_per_hour", lambda *arguments: calls.append("candidates") or {})
    monkeypatch.setattr("benchmarks.gpu.train", train)
    monkeypatch.setattr("benchmarks.gpu.gpu_tests.run_tests", run_tests)
    for found in (["training_step", "candidates", ("training", 60), ("tests", 600)], [("training", 60), ("tests", 600)]):
        run("cpu", replace(TINY, n_images=40, counts=(2,)), 10, tmp_path)
        assert calls == found
        calls.clear()
    run("cpu", replace(TINY, n_images=40, counts=(2,)), 10, tmp_path)
    assert calls == [("training", 600)]


def test_a_call_without_time_starts_nothing_but_the_training_run(tmp_path):
    found = run("cpu", replace(TINY, tests="tests/cuda/test_fused_layer.py", n_images=40), 1e-9, tmp_path)
    assert found["tests"]["outcomes"] == {}
    assert found["training_step"] == found["candidates"] == {}
    assert found["training"]["epochs"] == 0.8

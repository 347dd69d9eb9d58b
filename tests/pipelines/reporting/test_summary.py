import io
import json

import pytest
from rich.console import Console

from pipelines.inputs.measured import read_measured
from pipelines.reporting.summary import Summary, build_summary, describe_gain, format_summary, percent, read_summary, verdict
from tests.pipelines.conftest import EVALUATION, ROOT
from tests.pipelines.report_inputs import COMMITTED, changed

PARAMS = changed(COMMITTED, robustness={"domain": "normalised"})
MEASURED = {
    "evolve": {
        "best_fitness": 0.51234567891,
        "n_candidates": 36,
        "start_fitness": 0.75,
        "random_fitness": 0.625,
        "fresh_draws": 3,
    }
    | {"image_passes": 43_210, "cost_ratio": 0.5512345},
    "plain": {"plain_test_accuracy": 0.98111111111, "plain_energy_mj": 0.00360091234, "configured_plain_parameters": 975_000}
    | {"start_test_accuracy": 0.96944444444, "start_energy_mj": 0.00760182345},
    "evaluate": EVALUATION.model_dump()
    | {"test_accuracy": 0.97222222222, "parameters": 312_340, "plain_parameters": 802_000, "firing_rate": 0.14371234567}
    | {"energy_mj": 0.00380091234, "energy_with_decoding_mj": 0.2469712345, "spikes_per_image": 10842.3111},
    "robustness": {"noise_accuracy": 0.86190312345, "clean_accuracy": 0.97222222222},
    "export": {"max_abs_difference": 1e-6, "agreement": 1.0, "onnx_bytes": 3_212_345}
    | {"nir_agreement": 1.0, "nir_spike_agreement": 0.99991234567, "nir_bytes": 1_523_000},
}


@pytest.fixture
def summarised(tmp_path):
    """The summary of what the stages measured, with changes by stage."""

    def make(**stages: dict) -> Summary:
        for stage, values in (MEASURED | stages).items():
            (tmp_path / stage).mkdir(exist_ok=True)
            (tmp_path / stage / "metrics.json").write_text(json.dumps(values))
        shown = {"answers": [], "spikes": {}, "maps": {}, "machine": "A CPU; torch 2"}
        (tmp_path / "evaluate/shown.json").write_text(json.dumps(shown))
        return build_summary(PARAMS, read_measured(tmp_path), 359, "abc1234")

    return make


def printed(summary: Summary) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(format_summary(summary))
    return " ".join(console.file.getvalue().replace("\N{NO-BREAK SPACE}", " ").split())


def test_the_numbers_are_rounded_and_in_the_order_of_the_shipped_file(summarised):
    values = summarised().values()
    measured = {"test_accuracy": 0.972222, "plain_test_accuracy": 0.981111, "plain_energy_mj": 0.00360091}
    measured |= {
        "parameter_ratio": round(312_340 / 975_000, 6),
        "start_energy_mj": 0.00760182,
        "energy_mj": 0.00380091,
        "spikes_per_image": 10842.3,
    }
    measured |= {"noise_accuracy": 0.861903, "best_fitness": 0.512346, "cost_ratio": 0.551234, "nir_spike_agreement": 0.999912}
    settings = {"dataset": "digits", "network": "cifarnet", "variant": "baseline", "seed": 0, "noise_domain": "normalised"}
    settings |= {"cost": "energy", "test_images": 359, "machine": "A CPU; torch 2", "commit": "abc1234", "genes_format": None}
    assert values.items() >= (measured | settings).items()
    shipped = json.loads((path := ROOT / "reports/summary.json").read_text())
    assert [key for key in shipped if not key.endswith("_problem")] == list(values)
    assert read_summary(path).values() == shipped


def test_the_table_shows_a_value_that_is_no_markup_and_percent_a_missing_one(summarised):
    text = printed(summarised())
    for part in ("97.22 %", "312,340 of 975,000 plain = 32.0 %", "247 µJ if W is built for every image", "3.21 MB"):
        assert part in text
    for part in ("3.8 µJ, 50 % of the start’s, plain network 3.6 µJ", "36 candidates", "NIR"):
        assert part in text
    assert "[red]x[/]" in printed(summarised().model_copy(update={"dataset": "[red]x[/]"}))
    assert percent(None) == "–"


UNTRAINED = {"start_test_accuracy": None, "start_energy_mj": None}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "cut the energy by 50 % at the same accuracy"),
        ({"best_fitness": 0.96}, "cut the energy by 50 % at the same accuracy"),  # of a proxy, which proves nothing
        ({"start_test_accuracy": 0.93}, "cut the energy by 50 % and gained 4.2 points of accuracy"),
        ({"start_test_accuracy": 0.9999}, "cut the energy by 50 % and lost 2.8 points of accuracy"),
        (
            {"start_energy_mj": 0.0019, "start_test_accuracy": 0.93},
            "raised the energy by 100 % and gained 4.2 points of accuracy",
        ),
        ({"start_energy_mj": 0.0019}, "found no network better than its start"),
        ({"start_energy_mj": 0.0019, "start_test_accuracy": 0.9999}, "found no network better than its start"),
        ({"cost": "bytes"}, "cut the bytes by 45 % at the same accuracy"),
        (UNTRAINED, "cut the energy by 45 % in short trainings, and its start was not trained in full"),
        (UNTRAINED | {"cost_ratio": 1.0}, "found no network better than its start"),
        (UNTRAINED | {"cost_ratio": None}, "lowered the fitness by 0.2377 in short trainings"),
        ({"n_candidates": 1}, ""),
    ],
)
def test_a_gain_is_what_the_start_measures_in_full_if_the_images_can_tell(summarised, values, words):
    assert describe_gain(summarised().model_copy(update=values)).replace("\N{NO-BREAK SPACE}", " ") == words


def test_the_verdict_compares_with_the_plain_network_as_far_as_the_images_can_tell(summarised):
    def read_verdict(**values) -> list[str]:
        return [text.replace("\N{NO-BREAK SPACE}", " ") for text in verdict(summarised().model_copy(update=values))]

    right, plain, gain, start, doubt = read_verdict()
    assert right.startswith("97.22 % of the 359 test images are right (95 % interval 95.0 … 98.5 %), with 32 % of the plain")
    assert plain.endswith("reaches 98.11 %, 0.9 points more.") and start.endswith("reaches 96.94 %, 0.3 points less.")
    assert doubt == "With 359 test images, differences below 2.5 points are noise."
    assert read_verdict(test_images=35_900)[1:] == [plain, gain.replace("at the same", "and gained 0.3 points of"), start]
    assert read_verdict(plain_test_accuracy=0.97222)[1].endswith("also reaches 97.22 %.")
    one = {"plain_test_accuracy": None, "start_test_accuracy": None, "n_candidates": 1}
    assert (
        len(read_verdict(**one)) == 1
        and "(95 % interval 96.5 … 100.0 %)" in read_verdict(test_accuracy=1.0, test_images=107)[0]
    )
    lower = "In short trainings, the best random candidate had a lower fitness (0.4) than the winner (0.5123)."
    assert read_verdict(**one, random_fitness=0.4)[1:] == [lower]


def test_integers_are_events_of_slots_and_no_percentage_of_one(summarised):
    evaluate = MEASURED["evaluate"] | {"firing_rate": 1.358599}
    summary = summarised(evaluate=evaluate).model_copy(update={"T": 2, "levels": 4})
    assert "10,842, 2.7 events per neuron and image, 34 % of the 8 slots" in printed(summary)
    assert "10,842, firing rate 14.4 %" in printed(summarised().model_copy(update={"levels": None}))


def test_a_file_of_genes_and_reasons_in_place_of_onnx_and_nir_are_in_the_summary(summarised):
    summary = summarised(export=MEASURED["export"] | {"genes_bytes": 142_236, "genes_accuracy": 0.98333333})
    assert (summary.genes_format, summary.genes_bytes, summary.genes_accuracy) == ("int8", 142_236, 0.983333)
    summary = summarised(export={"problem": "torch cannot export it", "nir_problem": "NIR has no soft reset"})
    keys = list(summary.values())
    assert keys.index("onnx_problem") == keys.index("nir_bytes") - 1 and keys[-3:] == [
        "nir_spike_agreement",
        "machine",
        "commit",
    ]
    assert (summary.onnx_bytes, summary.onnx_agreement, summary.nir_bytes, summary.nir_agreement) == (None,) * 4
    assert summary.onnx_problem in printed(summary) and "NIR" not in printed(summary)


def test_a_plain_network_has_no_fitness(summarised):
    summary = summarised(evolve={"n_candidates": 0})
    assert summary.best_fitness is None and "evolution none" in printed(summary)

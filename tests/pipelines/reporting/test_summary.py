import io
import json

import pytest
from rich.console import Console

from pipelines.inputs.measured import read_measured
from pipelines.reporting.summary import Summary, build_summary, read_summary
from pipelines.reporting.verdict import describe_gain, format_summary, percent, verdict
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
    | {"image_passes": 43_210, "limit_energy_uj": 3.9012345678},
    "plain": {"plain_test_accuracy": 0.98111111111, "plain_energy_mj": 0.00360091234, "configured_plain_parameters": 975_000}
    | {"start_test_accuracy": 0.96944444444, "start_energy_mj": 0.00760182345, "start_parameters": 400_000}
    | {"narrowed_test_accuracy": 0.96, "narrowed_plain_test_accuracy": 0.97222222222, "narrowed_energy_mj": 0.00389012345},
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
    measured |= {
        "noise_accuracy": 0.861903,
        "best_fitness": 0.512346,
        "narrowed_energy_mj": 0.00389012,
        "nir_spike_agreement": 0.999912,
    }
    settings = {"dataset": "digits", "network": "cifarnet", "variant": "baseline", "seed": 0, "noise_domain": "normalised"}
    settings |= {
        "limit_energy_uj": 3.901235,
        "test_images": 359,
        "machine": "A CPU; torch 2",
        "commit": "abc1234",
        "genes_format": None,
    }
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


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "lowered the fitness by 0.2377"),
        ({"best_fitness": 0.75}, "found no network better than its start"),
        ({"n_candidates": 1}, ""),
        ({"start_fitness": None}, ""),
    ],
)
def test_a_gain_is_what_fresh_draws_of_the_start_and_of_the_winner_differ_by(summarised, values, words):
    assert describe_gain(summarised().model_copy(update=values)) == words


def test_what_is_used_of_a_budget_is_in_its_own_words_and_too_much_is_said(summarised):
    of_none = {name: None for name in Summary.model_fields if name.startswith("limit_")}
    summary = summarised().model_copy(update=of_none | {"limit_energy_uj": 4.0, "limit_parameters": 400_000.0})
    assert {name: used[:2] for name, used in summary.used().items()} == {
        "energy": (pytest.approx(3.80091), 4.0),
        "parameters": (312_340, 400_000),
    }
    within = "3.8 of 4 µJ, 312,340 of 400,000 parameters"
    assert f"It needs {within} of its budget. The plain" in printed(summary) and f"budget {within}" in printed(summary)
    more = summary.model_copy(update={"limit_parameters": 300_000.0, "limit_steps": 1.0, "T": 2})
    assert "That is 4.1 % more parameters than the budget allows. That is 100.0 % more steps than" in printed(more)
    none = summary.model_copy(update=of_none)
    assert none.used() == {} and "of its budget" not in printed(none)


def test_the_verdict_compares_with_the_other_networks_as_far_as_the_images_can_tell(summarised):
    def read_verdict(**values) -> list[str]:
        return [text.replace("\N{NO-BREAK SPACE}", " ") for text in verdict(summarised().model_copy(update=values))]

    right, used, plain, start, narrowed, doubt, gain = read_verdict()
    assert right.startswith("97.22 % of the 359 test images are right (95 % interval 95.0 … 98.5 %), with 32 % of the plain")
    assert plain.endswith("reaches 98.11 %, 0.9 points more.") and used == "It needs 3.8 of 3.9 µJ of its budget."
    assert start.endswith("reaches 96.94 %, 0.3 points less. The found network needs 50 % of its energy.")
    fits = "Narrowed until it fits into the budget, the start reaches 96.00 %, 1.2 points less"
    assert narrowed == f"{fits}, and the plain network also reaches 97.22 %."
    assert doubt == "With 359 test images, differences below 2.7 points are noise."
    assert gain == "In short trainings, the search lowered the fitness by 0.2377."
    assert read_verdict(test_images=35_900) == [
        right.replace("359", "35,900").replace("95.0 … 98.5", "97.0 … 97.4"),
        used,
        plain,
        start,
        narrowed,
        gain,
    ]
    assert read_verdict(narrowed_plain_test_accuracy=None)[4] == f"{fits}."
    alone = {name: None for name in Summary.model_fields if name.endswith("_test_accuracy") or name.startswith("limit_")}
    assert "(95 % interval 96.5 … 100.0 %)" in read_verdict(test_accuracy=1.0, test_images=107)[0]
    assert len(read_verdict(**alone, n_candidates=1)) == 1
    lower = "In short trainings, the best random candidate had a lower fitness (0.4) than the winner (0.5123)."
    assert read_verdict(**alone, n_candidates=1, random_fitness=0.4)[1:] == [lower]


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

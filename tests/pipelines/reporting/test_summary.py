import io
import json

import pytest
from rich.console import Console

from pipelines.inputs.measured import read_measured
from pipelines.reporting.summary import Summary, build_summary, format_summary, gained, percent, read_summary, verdict
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
    | {"image_passes": 43_210, "gain_error": 0.1, "cost_ratio": 0.5512345},
    "plain": {"plain_test_accuracy": 0.98111111111, "plain_energy_mj": 0.00360091234},
    "evaluate": EVALUATION.model_dump()
    | {"test_accuracy": 0.97222222222, "parameters": 312_340, "plain_parameters": 802_000, "firing_rate": 0.14371234567}
    | {"energy_mj": 0.00380091234, "energy_with_decoding_mj": 0.2469712345, "spikes_per_image": 10842.3111},
    "robustness": {"noise_accuracy": 0.86190312345, "clean_accuracy": 0.97222222222},
    "export": {"max_abs_difference": 1e-6, "agreement": 1.0, "onnx_bytes": 3_212_345}
    | {"nir_agreement": 1.0, "nir_spike_agreement": 0.99991234567, "nir_bytes": 1_523_000},
}


GAINS: list[tuple[dict[str, float | None], str]] = [
    ({"gain_error": 0.2}, "one as accurate as the network before the search, for 0.55 of its energy"),
    ({"best_fitness": 0.96}, "one less accurate than the network before the search, for 0.55 of its energy"),
    ({"best_fitness": 0.75, "cost_ratio": 1.0, "gain_error": 0.0}, "no better network than the one before the search"),
    ({"gain_error": None}, ""),
    ({"cost_ratio": None}, ""),
]


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


def test_the_numbers_are_those_of_the_stages_rounded_in_the_order_of_the_shipped_file(summarised):
    assert summarised().values() == {
        "dataset": "digits",
        "network": "cifarnet",
        "width": PARAMS.network.width,
        "n_genes": PARAMS.network.n_genes,
        "variant": "baseline",
        "seed": 0,
        "test_accuracy": 0.972222,
        "test_images": 359,
        "plain_test_accuracy": 0.981111,
        "plain_energy_mj": 0.00360091,
        "parameters": 312_340,
        "plain_parameters": 802_000,
        "parameter_ratio": round(312_340 / 802_000, 6),
        "energy_mj": 0.00380091,
        "energy_with_decoding_mj": 0.246971,
        "energy_of_sums_mj": 0.0,
        "spikes_per_image": 10842.3,
        "firing_rate": 0.143712,
        "noise_accuracy": 0.861903,
        "noise_domain": "normalised",
        "n_candidates": 36,
        "best_fitness": 0.512346,
        "start_fitness": 0.75,
        "gain_error": 0.1,
        "cost": "energy",
        "cost_ratio": 0.551234,
        "random_fitness": 0.625,
        "fresh_draws": 3,
        "image_passes": 43_210,
        "onnx_bytes": 3_212_345,
        "onnx_agreement": 1.0,
        "genes_format": None,
        "genes_bytes": None,
        "genes_accuracy": None,
        "nir_bytes": 1_523_000,
        "nir_agreement": 1.0,
        "nir_spike_agreement": 0.999912,
        "machine": "A CPU; torch 2",
        "commit": "abc1234",
    }
    shipped = json.loads((path := ROOT / "reports/summary.json").read_text())
    assert [key for key in shipped if not key.endswith("_problem")] == list(summarised().values())
    assert read_summary(path).values() == shipped


def test_the_table_shows_percent_and_units(summarised):
    text = printed(summarised())
    shown = ("97.22 %", "86.19 %", "312,340 of 802,000 plain = 38.9 %", "3.8 µJ, 247 µJ", "14.4 %")
    cost, found = "36 candidates, 43,210 image passes", "winner 0.5123, start 0.75, best random candidate 0.625"
    on = "mean of 3 fresh draws, lower is better"
    gain = "one more accurate than the network before the search, for 0.55 of its energy"
    for part in (*shown, "3.21 MB", "1.52 MB", "99.99 % of spikes", f"{cost}; {gain}; loss ({on}): {found}"):
        assert part in text
    for values, words in GAINS:
        assert gained(summarised().model_copy(update=values)) == words
    assert "larger" not in text and "residual" not in text and "int8" not in text
    assert "[red]x[/]" in printed(summarised().model_copy(update={"dataset": "[red]x[/]"}))
    assert percent(None) == "–"


def test_the_verdict_has_the_plain_network_what_the_images_can_tell_and_what_the_search_found(summarised):
    def says(**values) -> str:
        return " ".join(verdict(summarised().model_copy(update=values))).replace("\N{NO-BREAK SPACE}", " ")

    size = "97.22 % of the test images are right, with 39 % of the plain network’s parameters."
    plain = "The plain network, trained in this run too, reaches 98.11 %: 0.9 points more"
    doubt = "; 359 test images cannot tell apart less than 2.3."
    found = "The search found one more accurate than the network before the search, for 0.55 of its energy."
    assert says() == f"{size} {plain}{doubt} {found}"
    assert says(test_images=35_900) == f"{size} {plain}. {found}"
    assert "87.11 %: 10.1 points less. " in says(plain_test_accuracy=0.87111)
    one = {"cost_ratio": None, "gain_error": None, "plain_test_accuracy": None}
    assert says(**one) == f"{size} The search found one whose fitness is lower by 0.2377 than before."
    assert says(**one, best_fitness=0.75) == f"{size} The search found none better than its start."
    assert says(**one, n_candidates=1, n_genes=None) == "97.22 % of the test images are right, with plain weights."


def test_the_table_tells_residual_sums_and_that_genes_make_a_network_larger(summarised):
    text = printed(summarised().model_copy(update={"energy_of_sums_mj": 0.0012, "parameter_ratio": 1.2}))
    assert "247 µJ with building W, 1.2 µJ more for the residual sums" in text
    assert "larger than plain: lower network.n_genes" in text


def test_the_file_of_genes_is_shown_where_there_is_one(summarised):
    summary = summarised(export=MEASURED["export"] | {"genes_bytes": 142_236, "genes_accuracy": 0.98333333})
    assert (summary.genes_format, summary.genes_bytes, summary.genes_accuracy) == ("int8", 142_236, 0.983333)
    assert "int8, 0.142 MB, test accuracy 98.33 %" in printed(summary)


def test_a_network_without_onnx_or_nir_has_the_reasons_in_their_place(summarised):
    summary = summarised(export={"problem": "torch cannot export it", "nir_problem": "NIR has no soft reset"})
    keys = list(summary.values())
    assert keys.index("onnx_problem") == keys.index("nir_bytes") - 1 and keys[-3:] == ["nir_problem", "machine", "commit"]
    assert (summary.onnx_bytes, summary.onnx_agreement, summary.nir_bytes, summary.nir_agreement) == (None,) * 4
    assert "ONNX not possible: torch cannot export it NIR not possible: NIR has no soft reset" in printed(summary)


def test_a_plain_network_has_no_fitness(summarised):
    summary = summarised(evolve={"n_candidates": 0})
    assert summary.best_fitness is None and "evolution none" in printed(summary)

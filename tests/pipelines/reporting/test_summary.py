import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from gee_core.errors import InputError
from pipelines.project.params import load_params
from pipelines.reporting.summary import build_summary, energy, format_summary, percent, read_measured
from tests.pipelines.conftest import MEASURED

COMMITTED = load_params(Path(__file__).parents[3] / "params.yaml")
PARAMS = COMMITTED.model_copy(update={"robustness": COMMITTED.robustness.model_copy(update={"domain": "normalised"})})
METRICS = {
    "evolve": {"best_fitness": 0.51234567891, "n_candidates": 36},
    "evaluate": MEASURED
    | {
        "test_accuracy": 0.97222222222,
        "parameters": 312_340,
        "plain_parameters": 802_000,
        "energy_mj": 0.00380091234,
        "energy_with_decoding_mj": 0.2469712345,
        "energy_of_sums_mj": 0.0,
        "spikes_per_image": 10842.3111,
        "firing_rate": 0.14371234567,
    },
    "robustness": {"noise_accuracy": 0.86190312345, "clean_accuracy": 0.97222222222},
    "export": {"max_abs_difference": 1e-6, "agreement": 1.0, "onnx_bytes": 3_212_345}
    | {"nir_agreement": 1.0, "nir_spike_agreement": 0.99991234567, "nir_bytes": 1_523_000},
}
KEYS = [
    "dataset",
    "network",
    "width",
    "n_genes",
    "variant",
    "seed",
    "test_accuracy",
    "parameters",
    "plain_parameters",
    "parameter_ratio",
    "energy_mj",
    "energy_with_decoding_mj",
    "energy_of_sums_mj",
    "spikes_per_image",
    "firing_rate",
    "noise_accuracy",
    "noise_domain",
    "n_candidates",
    "best_fitness",
    "onnx_bytes",
    "onnx_agreement",
    "genes_format",
    "genes_bytes",
    "genes_accuracy",
    "nir_bytes",
    "nir_agreement",
    "nir_spike_agreement",
    "commit",
]


@pytest.fixture
def reports(tmp_path):
    for stage, values in METRICS.items():
        folder = tmp_path / "reports" / stage
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(values))
    return tmp_path / "reports"


def summarised(reports: Path) -> dict:
    return build_summary(PARAMS, read_measured(reports), "abc1234")


def printed(summary: dict) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(format_summary(summary))
    return console.file.getvalue().replace("\N{NO-BREAK SPACE}", " ")


def test_summary_has_every_key_in_its_order(reports):
    assert list(summarised(reports)) == KEYS


def test_numbers_are_those_of_the_stages_rounded(reports):
    summary = summarised(reports)
    assert summary["test_accuracy"] == 0.972222
    assert summary["energy_mj"] == 0.00380091
    assert summary["spikes_per_image"] == 10842.3
    assert summary["parameter_ratio"] == round(312_340 / 802_000, 6)
    assert summary["best_fitness"] == 0.512346
    assert (summary["n_candidates"], summary["onnx_bytes"], summary["noise_domain"]) == (36, 3_212_345, "normalised")


def test_a_network_that_its_genes_make_larger_is_told_so(reports):
    summary = summarised(reports)
    assert "larger" not in printed(summary)
    assert "larger than unencoded: lower network.n_genes" in " ".join(printed(summary | {"parameter_ratio": 1.2}).split())


@pytest.mark.parametrize("evolve", [{"n_candidates": 0}, {"n_candidates": 1, "best_fitness": None}])
def test_a_fitness_that_does_not_exist_is_null(reports, evolve):
    (reports / "evolve/metrics.json").write_text(json.dumps(evolve))
    summary = summarised(reports)
    assert summary["best_fitness"] is None
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert "candidates" in printed(summary)


@pytest.mark.parametrize("stage", METRICS)
def test_missing_metrics_are_named_with_the_remedy(reports, stage):
    (reports / stage / "metrics.json").unlink()
    with pytest.raises(InputError, match=rf"{stage}/metrics\.json: not found.*dvc repro"):
        summarised(reports)


@pytest.mark.parametrize(
    "content", ['{"n_candidates": ', "[]", "{}", '{"n_candidates": null}', '{"n_candidates": NaN}', "\xff"]
)
def test_damaged_metrics_are_named_with_the_remedy(reports, content):
    (reports / "evolve/metrics.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"^[^\n]*evolve/metrics\.json: [^\n]*dvc repro`$"):
        summarised(reports)


def test_a_network_without_onnx_has_the_reason_in_its_place(reports):
    (reports / "export/metrics.json").write_text('{"problem": "torch cannot export it"}')
    summary = summarised(reports)
    assert list(summary) == [*KEYS[:-4], "onnx_problem", *KEYS[-4:]]
    assert (summary["onnx_bytes"], summary["onnx_agreement"]) == (None, None)
    assert "ONNX not possible: torch cannot export it" in " ".join(printed(summary).split())


def test_a_network_that_nir_cannot_express_has_the_reason_in_its_place(reports):
    export = {"agreement": 1.0, "onnx_bytes": 3_212_345, "nir_problem": "NIR has no soft reset"}
    (reports / "export/metrics.json").write_text(json.dumps(export))
    summary = summarised(reports)
    assert list(summary) == [*KEYS[:-1], "nir_problem", KEYS[-1]]
    assert (summary["nir_bytes"], summary["nir_agreement"], summary["nir_spike_agreement"]) == (None, None, None)
    assert "NIR not possible: NIR has no soft reset" in " ".join(printed(summary).split())


def test_the_file_of_genes_is_shown_where_there_is_one(reports):
    assert summarised(reports)["genes_format"] is None
    assert "int8" not in printed(summarised(reports))
    measured = METRICS["export"] | {"genes_bytes": 142_236, "genes_accuracy": 0.98333333}
    (reports / "export/metrics.json").write_text(json.dumps(measured))
    summary = summarised(reports)
    assert (summary["genes_format"], summary["genes_bytes"], summary["genes_accuracy"]) == ("int8", 142_236, 0.983333)
    assert "int8, 0.142 MB, test accuracy 98.33 %" in printed(summary)


def test_terminal_table_shows_percent_and_units(reports):
    text = printed(summarised(reports))
    for shown in (
        "97.22 %",
        "86.19 %",
        "312,340 of 802,000 unencoded = 38.9 %",
        "3.8 µJ, 247 µJ",
        "14.4 %",
        "3.21 MB",
        "1.52 MB",
        "99.99 % of spikes",
    ):
        assert shown in text


def test_terminal_table_shows_the_energy_of_residual_sums_where_there_are_any(reports):
    summary = summarised(reports)
    assert "residual" not in printed(summary)
    assert "247 µJ with building W, 1.2 µJ more for the residual sums" in printed(summary | {"energy_of_sums_mj": 0.0012})


def test_terminal_table_shows_markup_as_it_is(reports):
    assert "[red]x[/]" in printed(summarised(reports) | {"dataset": "[red]x[/]"})


@pytest.mark.parametrize(
    ("mj", "shown"),
    [(2500.0, "2.5 J"), (43.24, "43.2 mJ"), (0.00123, "1.23 µJ"), (0.9996, "1 mJ"), (4e-7, "0.4 nJ"), (0.0, "0 nJ")],
)
def test_energy_takes_the_unit_that_reads_best(mj, shown):
    assert energy(mj).replace("\N{NO-BREAK SPACE}", " ") == shown


def test_what_is_unknown_is_a_dash():
    assert percent(None) == energy(None) == "–"

"""The stage report refuses files that are missing, damaged or of another network, and then writes nothing."""

import re

import pytest

from gee_core.errors import InputError
from pipelines.report import run
from tests.pipelines.report_inputs import PARAMS, changed, write_inputs


@pytest.mark.parametrize(
    "name",
    [
        "prepared/meta.json",
        "models/evolve/genotype.json",
        "reports/evolve/candidates.csv",
        "reports/train/history.csv",
        "reports/evaluate/layers.csv",
        "reports/evaluate/confusion.csv",
        "reports/evaluate/metrics.json",
        "reports/robustness/noise.csv",
        "reports/robustness/hardware.csv",
        "reports/export/metrics.json",
    ],
)
@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00"])
def test_a_missing_or_damaged_file_is_named_and_nothing_is_written(tmp_path, name, content):
    write_inputs(tmp_path)
    path = tmp_path / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^[^\n]*{re.escape(name)}: [^\n]*dvc repro"):
        run(PARAMS, tmp_path / "reports", tmp_path / "models", tmp_path / "prepared")
    assert not (tmp_path / "reports/summary.json").exists() and not (tmp_path / "reports/index.html").exists()


def test_a_genotype_with_a_word_for_a_number_is_refused_and_nothing_is_written(tmp_path):
    write_inputs(tmp_path)
    path = tmp_path / "models/evolve/genotype.json"
    assert "0.123" in path.read_text()
    path.write_text(path.read_text().replace("0.123", '"wide"', 1))
    with pytest.raises(
        InputError,
        match=r"^[^\n]*genotype\.json: cannot be read as a genotype \(sigma_O: Input should be a valid number[^\n]*dvc repro",
    ):
        run(PARAMS, tmp_path / "reports", tmp_path / "models", tmp_path / "prepared")
    assert not (tmp_path / "reports/summary.json").exists() and not (tmp_path / "reports/index.html").exists()


def test_a_genotype_of_another_network_is_refused(tmp_path):
    write_inputs(tmp_path)
    with pytest.raises(InputError, match=r"genotype.json: of 17 encodings, and the network has 8, so it is another network's"):
        params = changed(network={"name": "cifarnet", "block": None})
        run(params, tmp_path / "reports", tmp_path / "models", tmp_path / "prepared")
    assert not (tmp_path / "reports/index.html").exists()


def test_layers_of_another_network_are_refused(tmp_path):
    write_inputs(tmp_path)
    layers = tmp_path / "reports/evaluate/layers.csv"
    layers.write_text("".join(layers.read_text().splitlines(keepends=True)[:-3]))
    with pytest.raises(InputError, match=r"layers.csv: of 14 encodings, and the network has 17, so it is another network's"):
        run(PARAMS, tmp_path / "reports", tmp_path / "models", tmp_path / "prepared")

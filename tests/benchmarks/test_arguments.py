import json
import sys

import pytest

from benchmarks import compression, decoding, energy_counts, gene_file, paper_sizes


@pytest.mark.parametrize(
    ("benchmark", "arguments", "message"),
    [
        (paper_sizes, "--tflops 0", "argument --tflops: '0' is not allowed: give a number above 0"),
        (paper_sizes, "--tflops=-3", "argument --tflops: '-3' is not allowed: give a number above 0"),
        (paper_sizes, "--tflops nan", "argument --tflops: 'nan' is not allowed: give a number above 0"),
        (decoding, "--rounds 0", "argument --rounds: '0' is not allowed: give a whole number from 1"),
        (decoding, "--rounds 1.5", "argument --rounds: '1.5' is not allowed: give a whole number from 1"),
        (gene_file, "--network nope", "argument --network: invalid choice: 'nope'"),
        (compression, "--epochs 1", "--epochs 1 is not allowed: give more than the 2 epochs of warm-up"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(benchmark, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [benchmark.__name__, *arguments.split()])
    with pytest.raises(SystemExit, match=r"^2$"):
        benchmark.main()
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_operations_per_image_are_of_the_images_there_are(monkeypatch, capsys):
    digits = energy_counts.load_digits()
    digits.images = digits.images[:20]
    monkeypatch.setattr(energy_counts, "load_digits", lambda: digits)
    found = []
    for images in ("20", "30"):
        monkeypatch.setattr(sys, "argv", ["energy_counts", "--images", images, "--json"])
        energy_counts.main()
        found.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert found[0]["images"] == 20
    assert found[0] == found[1]

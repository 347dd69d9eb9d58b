"""Bad params.yaml files: each message says which field, which value and what to do."""

from pathlib import Path

import pytest

from gee_core.errors import InputError
from pipelines.project.params import load_params

GOOD = (Path(__file__).resolve().parents[3] / "presets/digits.yaml").read_text(encoding="utf-8")
STRENGTHS = "[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]"


def edited(old: str, new: str) -> str:
    assert old in GOOD, old
    return GOOD.replace(old, new, 1)


# id: (text of the file, field, value as shown or None, remedy)
BAD = {
    "unknown key, none near": (edited("  seed: 0", "  seed: 0\n  zzz: 1"), "base.zzz", None, "remove it"),
    "missing section": (GOOD[: GOOD.index("report:")], "report is missing", None, "add it"),
    "bool for int": (edited("seed: 0", "seed: true"), "base.seed", "True", "valid integer"),
    "YAML 1.1 no for bool": (edited("flip: false", "flip: no"), "train.flip", "'no'", "valid boolean"),
    "below range": (edited("T: 4", "T: 0"), "network.T", "0", "greater than or equal to 1"),
    "plain network with ste": (edited("n_genes: 28", "n_genes: null"), "network.n_genes", "null", "set evolve.variant"),
    "warm-up too long": (edited("warmup_epochs: 2", "warmup_epochs: 30"), "warmup_epochs", "30", "less than epochs"),
    "gene out of range": (edited("init: null", "init: {beta: -1}"), "network.init.beta", "-1", "or equal to 0"),
    "missing key of a model in a section": (
        edited("rescore: {top: 3, draws: 2}", "rescore: {top: 3}"),
        "evolve.rescore.draws is missing",
        None,
        "gee_core/config/evolve.py says what it is",
    ),
    "strengths without 0.5": (edited("0.5, 0.6", "0.6"), "robustness.strengths", "0.4", "must contain 0.5"),
    "variable of the environment": (
        edited("title: Gen", "title: ${oc.env:TOKEN} Gen"),
        "report.title",
        "'${oc.env:TO",
        "write it",
    ),
    "interpolation in a path": (edited("data/raw", "data/${HOME}"), "prepare.path", "'data/${HOME}'", "write it without"),
    "number as a key": (GOOD + "\n1: 2\n", "1", None, "remove it"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_value_is_refused_with_its_field_its_value_and_a_remedy(case, tmp_path):
    text, field, value, remedy = BAD[case]
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_params(path)
    line = next((line for line in str(caught.value).split("\n") if field in line and remedy in line), None)
    assert line is not None, str(caught.value)
    assert line.startswith(f"{path}: ")
    assert value is None or value in line


UNREADABLE = {
    "a list": (b"- base\n", "must hold sections"),
    "duplicate key": (b"base:\n  seed: 0\n  seed: 1\n", 'duplicate key "seed"'),
    "NUL byte": (b"base: \x00\n", "not valid YAML"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_is_no_mapping_is_refused_on_one_line_with_a_remedy(case, tmp_path):
    content, reason = UNREADABLE[case]
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_params(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "gee preset use digits" in message
    assert "\n" not in message


def test_a_folder_in_place_of_the_file_and_no_file_have_remedies_of_their_own(tmp_path):
    with pytest.raises(InputError) as caught:
        load_params(tmp_path)
    assert f"{tmp_path}: cannot be read (is a directory): a folder of this name lies there: rename" in str(caught.value)
    with pytest.raises(InputError, match=r"missing\.yaml: not found: .*gee preset use digits"):
        load_params(tmp_path / "missing.yaml")


def test_every_bad_key_is_named_at_once(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(edited("seed: 0", "seed: -1").replace("holdout: 0.2", "holdout: 1").replace("T: 4", "T: x"))
    with pytest.raises(InputError) as caught:
        load_params(path)
    fields = [line.removeprefix(f"{path}: ").split(" ")[0] for line in str(caught.value).split("\n")]
    assert fields == ["base.seed", "network.T", "prepare.holdout"]


@pytest.mark.parametrize(("written", "value"), [("1e-3", 1e-3), ("1", 1.0)])
def test_a_number_is_read_as_a_float_however_it_is_written(written, value, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(edited("lr_min: 1e-5", "lr_min: 0").replace("lr: 4e-3", f"lr: {written}"), encoding="utf-8")
    lr = load_params(path).train.lr
    assert lr == value
    assert isinstance(lr, float)


@pytest.mark.parametrize("folder", ["data", "data/raw/../../data"])
def test_a_folder_of_images_that_holds_outputs_of_the_pipeline_is_refused(folder, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(edited("dataset: digits", "dataset: folder").replace("path: data/raw", f"path: {folder}"))
    with pytest.raises(InputError, match=r"prepare\.path = .*: holds data/prepared, .*: move the images to a folder"):
        load_params(path)

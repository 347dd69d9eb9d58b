from pathlib import Path

import pytest

from gee_core.errors import InputError
from gee_core.model.zoo import default_block
from pipelines.project import presets
from pipelines.project.params import load_params
from pipelines.project.presets import preset_names, preset_text, write_preset
from pipelines.project.safe_yaml import parse_yaml

ROOT = Path(__file__).resolve().parents[3]
NAMES = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _the_projects_presets(monkeypatch):
    monkeypatch.setattr(presets, "PRESETS", ROOT / "presets")


@pytest.fixture
def params(tmp_path) -> Path:
    return tmp_path / "params.yaml"


def comments(text: str) -> list[str]:
    return [line.split("#", 1)[1].strip() for line in text.splitlines() if "#" in line]


def test_the_presets_are_the_files_of_their_folder():
    assert preset_names() == NAMES
    assert "digits" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_writes_valid_params_with_every_comment(name, params):
    write_preset(name, params=params)
    load_params(params)
    assert comments(params.read_text()) == comments((ROOT / "presets/digits.yaml").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_that_is_loaded_is_the_one_that_is_written(name, params):
    write_preset(name, "elsewhere", params)
    expected, loaded = parse_yaml(preset_text(name, "elsewhere")), load_params(params).model_dump()
    assert loaded["network"].pop("block") == default_block(expected["network"]["name"])
    assert expected["network"].pop("block") is None  # so that a study may set another network
    assert expected == loaded


def test_the_default_preset_is_the_committed_params():
    assert load_params(ROOT / "presets/digits.yaml") == load_params(ROOT / "params.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_of_the_images_can_be_given(name, params):
    write_preset(name, "/somewhere else/images", params)
    ordinary = params.with_name("ordinary.yaml")
    write_preset(name, params=ordinary)
    given, usual = load_params(params).model_dump(), load_params(ordinary).model_dump()
    assert given["prepare"].pop("path") == "/somewhere else/images"
    usual["prepare"].pop("path")
    assert given == usual


def test_presets_do_not_mix_whatever_was_there_before(params):
    write_preset("cifar10-small", params=params)
    small = params.read_bytes()
    write_preset("cifar10-paper", "elsewhere", params)
    write_preset("cifar10-small", params=params)
    assert params.read_bytes() == small


def test_the_changes_are_named_with_old_and_new_value(params):
    write_preset("digits", params=params)
    assert write_preset("digits", params=params) == []
    changes = write_preset("digits", "elsewhere", params)
    assert changes == ["prepare.path: data/raw → elsewhere"]


def test_an_unknown_preset_lists_the_choices_and_writes_nothing(params):
    with pytest.raises(InputError) as caught:
        write_preset("cifar11", params=params)
    assert str(caught.value) == f"unknown preset 'cifar11': choose one of {', '.join(NAMES)}"
    assert not params.exists()


def test_a_folder_that_cannot_be_is_refused_and_the_old_file_stays(params):
    write_preset("digits", params=params)
    before = params.read_bytes()
    with pytest.raises(InputError, match=r"prepare\.path"):
        write_preset("digits", "", params)
    assert params.read_bytes() == before


@pytest.mark.parametrize(
    "broken", [b"", b"- a list\n", b"base: 3\n", b"base: [1, 2\n", b"base:\n\tseed: 0\n", b"title: caf\xe9\n"], ids=repr
)
def test_a_preset_mends_a_file_that_was_broken(broken, params):
    params.write_bytes(broken)  # what the message about such a file tells people to do
    write_preset("digits", params=params)
    assert load_params(params) == load_params(ROOT / "presets/digits.yaml")

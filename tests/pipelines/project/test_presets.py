from pathlib import Path

import pytest

from gee_core.config import SHARED, Params
from gee_core.config.network import default_block
from gee_core.errors import InputError
from pipelines.project import presets
from pipelines.project.params import load_params, override_values
from pipelines.project.presets import changes_from_preset, describe_presets, load_preset, set_param_arguments, write_preset
from pipelines.project.safe_yaml import parse_yaml
from tests.project_copy import ROOT

NAMES = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _the_projects_presets(monkeypatch):
    monkeypatch.setattr(presets, "PRESETS", ROOT / "presets")


@pytest.fixture
def params(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("params.yaml")


def write(name: str, path: str | None = None) -> list[str]:
    return write_preset(load_preset(name, path))


def test_every_preset_has_a_row_in_the_readme_and_differs_from_itself_in_nothing():
    rows = [line for line in (ROOT / "presets/README.md").read_text().splitlines() if line.startswith("| `")]
    assert sorted(row.split("`")[1] for row in rows) == NAMES
    assert load_preset("digits").text == (ROOT / "params.yaml").read_text()  # so that using it leaves no diff
    for name, (what, data, time) in describe_presets().items():
        assert f"| `{name}` | {what} | {data} | {time} |" in rows
        params = load_preset(name).params
        assert ("download" in data) == (params.prepare.dataset in ("cifar10", "cifar100", "fashion_mnist"))
        assert "CPU" in time or "needs a GPU" in time
    assert changes_from_preset(params) == (name, {})
    changed = params.model_copy(update={"train": params.train.model_copy(update={"lr": 0.123})})
    assert changes_from_preset(changed) == (name, {"train.lr": "0.123"})
    short = load_preset("cifar10-tiny").values
    short["evolve"]["proxy"] |= {"lr": 0.1}
    changes = changes_from_preset(Params.model_validate(short))
    assert changes == ("cifar10-tiny", {"evolve.proxy": '{"epochs": 1, "lr": 0.1, "images": 1500}'})


def test_settings_of_the_machine_do_not_tell_presets_apart(tmp_path, monkeypatch):
    of_machine = "base: {device: cuda, precision: bf16}\nprepare: {path: x}\n"
    (tmp_path / "digits.yaml").write_text((ROOT / "presets/digits.yaml").read_text())
    (tmp_path / "near.yaml").write_text(f"{of_machine}train: {{epochs: 31}}\n")
    monkeypatch.setattr(presets, "PRESETS", tmp_path)
    values = load_preset("near").params.model_copy(update={"train": load_preset("digits").params.train})
    assert changes_from_preset(values)[0] == "digits"


def comments(text: str) -> list[str]:
    return [line.split("#", 1)[1].strip() for line in text.splitlines() if "#" in line]


def test_a_preset_is_written_as_it_is_loaded_with_every_comment_and_the_given_folder(params):
    write("nmnist", "/somewhere else/images")
    assert comments(params.read_text()) == comments((ROOT / "presets/digits.yaml").read_text())
    expected, loaded = load_preset("nmnist").values, load_params(params).model_dump()
    assert loaded["network"].pop("block") == default_block(expected["network"]["name"])
    assert expected["network"].pop("block") is None  # so that a study may set another network
    proxy = {name: expected["train"][name] for name in SHARED} | expected["evolve"].pop("proxy")
    assert loaded["evolve"].pop("proxy") == {"images": None} | proxy
    assert loaded == expected | {"prepare": expected["prepare"] | {"path": "/somewhere else/images"}}


def test_the_changes_are_named_with_old_and_new_value(params):
    write("digits")
    assert write("digits") == []
    changes = write("digits", "elsewhere")
    assert changes == ["prepare.path: data/raw → elsewhere"]
    params.write_text(params.read_text().replace("detach_reset: true", "detach_reset: false"))
    assert "network.detach_reset: false → true" in write("digits")
    new = load_preset("imagenet-paper").values
    assert applied(set_param_arguments(parse_yaml(params.read_text()), new), params) == new  # as it is queued


def test_an_unknown_preset_lists_the_choices_and_writes_nothing(params):
    with pytest.raises(InputError) as caught:
        write("cifar10small")
    choice = f"choose one of {', '.join(NAMES)}; did you mean cifar10-small?"
    assert str(caught.value) == f"unknown preset 'cifar10small': {choice}"
    assert not params.exists()


@pytest.mark.parametrize("broken", [b"", b"- a list\n", b"base: [1, 2\n"], ids=repr)
def test_a_preset_mends_a_file_that_was_broken_and_keeps_it(broken, params, caplog):
    params.write_bytes(broken)
    write("digits")
    assert load_params(params) == load_params(ROOT / "presets/digits.yaml")
    kept = params.with_name("params.yaml.bak")
    assert [path.read_bytes() for path in [kept] if path.exists()] == [broken] * bool(broken)
    assert caplog.messages == ([f"{params}: was edited; kept as {kept}"] if broken else [])


def test_a_preset_is_not_kept_and_an_edited_one_is(params, caplog):
    write("digits")
    write("cifar10-small", "my/images")
    write("digits")
    assert [path.name for path in params.parent.iterdir()] == ["params.yaml"]
    assert caplog.messages == []
    params.write_text(edited := params.read_text().replace("seed: 0", "seed: 7", 1))
    write("digits")
    assert params.with_name("params.yaml.bak").read_text() == edited


def applied(changes: list[str], params: Path) -> dict:
    """params.yaml after `dvc exp run --set-param` with ``changes``."""
    from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

    (one,) = get_hydra_sweeps({str(params): changes})  # more would be several experiments
    apply_overrides(params, one[str(params)])
    return parse_yaml(params.read_text())


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("network.init", {"omega_O": 1.0, "beta": 0.5}, {"beta": 0.25}),
        ("network.init", None, {"omega_O": 1e-05, "beta": 0.5}),
        ("evolve.rescore", {"top": 2, "draws": 2}, None),
        ("prepare.path", "data/raw", "it's, here = {x} [1] #"),
        ("prepare.path", "data/raw", "C:\\images\\'new'\\"),
        ("report.title", "a", 'null: "quoted"'),
    ],
)
def test_values_of_every_kind_are_queued_as_they_are(key, old, new, params):
    before, after = (override_values(load_preset("digits").values, {key: value}, "test") for value in (old, new))
    with params.open("w") as file:
        presets.YAML().dump(before, file)
    assert applied(set_param_arguments(before, after), params) == after

import copy
import subprocess
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from gee_core.config.known_networks import default_block
from gee_core.errors import InputError
from pipelines.project import presets
from pipelines.project.params import load_params
from pipelines.project.presets import (
    describe_presets,
    preset_names,
    preset_text,
    queue_preset,
    set_param_arguments,
    write_preset,
)
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
    params.write_text(params.read_text().replace("detach_reset: true", "detach_reset: false"))
    assert "network.detach_reset: false → true" in write_preset("digits", params=params)


@pytest.mark.parametrize(("name", "did"), [("nothing", ""), ("cifar10small", "; did you mean cifar10-small?")])
def test_an_unknown_preset_lists_the_choices_and_writes_nothing(name, did, params):
    with pytest.raises(InputError) as caught:
        write_preset(name, params=params)
    assert str(caught.value) == f"unknown preset {name!r}: choose one of {', '.join(NAMES)}{did}"
    assert not params.exists()


def test_every_preset_has_a_row_in_the_readme_and_no_other():
    rows = [line for line in (ROOT / "presets/README.md").read_text().splitlines() if line.startswith("| `")]
    assert sorted(row.split("`")[1] for row in rows) == NAMES
    described = describe_presets()
    for name, (what, data, time) in described.items():
        assert f"| `{name}` | {what} | {data} | {time} |" in rows
        needs_download = preset_text(name).partition("dataset: ")[2].split()[0] in ("cifar10", "cifar100", "fashion_mnist")
        assert ("download" in data) == needs_download
        assert "CPU" in time or "needs a GPU" in time


def test_a_preset_without_a_row_is_listed_as_not_described(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("train: {epochs: 3}\n")
    monkeypatch.setattr(presets, "PRESETS", tmp_path)
    assert describe_presets() == {"mine": (f"not described in {tmp_path / 'README.md'}", "", "")}


def test_a_folder_that_cannot_be_is_refused_and_the_old_file_stays(params):
    write_preset("digits", params=params)
    before = params.read_bytes()
    with pytest.raises(InputError, match=r"prepare\.path"):
        write_preset("digits", "", params)
    assert params.read_bytes() == before


@pytest.mark.parametrize(
    "broken", [b"", b"- a list\n", b"base: 3\n", b"base: [1, 2\n", b"base:\n\tseed: 0\n", b"title: caf\xe9\n"], ids=repr
)
def test_a_preset_mends_a_file_that_was_broken_and_keeps_it(broken, params, caplog):
    params.write_bytes(broken)
    write_preset("digits", params=params)
    assert load_params(params) == load_params(ROOT / "presets/digits.yaml")
    kept = params.with_name("params.yaml.bak")
    if not broken:
        assert not kept.exists()
        return
    assert kept.read_bytes() == broken
    params.write_text("base: [another\n")
    write_preset("digits", params=params)
    assert kept.read_text() == "base: [another\n"
    said = f"{params}: not valid; kept as {kept}"
    assert caplog.messages == [said, f"{said}, in place of an older one"]


def test_a_valid_file_and_one_without_end_are_not_kept(params, caplog):
    write_preset("digits", params=params)
    write_preset("cifar10-small", params=params)
    params.unlink()
    params.symlink_to("/dev/zero")
    write_preset("digits", params=params)
    assert [path.name for path in params.parent.iterdir()] == ["params.yaml"]
    assert caplog.messages == []


def test_a_folder_in_place_of_params_is_refused(params):
    params.mkdir()
    with pytest.raises(InputError, match="a folder of this name lies there: rename or move that folder"):
        write_preset("digits", params=params)
    assert params.is_dir()


def applied(changes: list[str], params: Path) -> dict:
    """params.yaml after `dvc exp run --set-param` with ``changes``."""
    (one,) = get_hydra_sweeps({str(params): changes})  # more would be several experiments
    apply_overrides(params, one[str(params)])
    return parse_yaml(params.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_queued_turns_any_preset_into_another(name, params):
    write_preset("imagenet-paper", params=params)
    new = parse_yaml(preset_text(name))
    assert applied(set_param_arguments(parse_yaml(params.read_text()), new), params) == new


@pytest.mark.parametrize(
    ("section", "key", "old", "new"),
    [
        ("network", "init", {"omega_O": 1.0, "beta": 0.5}, {"beta": 0.25}),
        ("network", "init", {"omega_O": 1.0}, {"beta": 0.25}),
        ("network", "init", None, {"omega_O": 1e-05, "beta": 0.5}),
        ("evolve", "rescore", {"top": 2, "draws": 2}, None),
        ("prepare", "path", "data/raw", "it's, here = {x} [1] #"),
        ("prepare", "path", "data/raw", "C:\\images\\'new'\\"),
        ("report", "title", "a", 'null: "quoted"'),
        ("report", "title", "a", "7"),
    ],
)
def test_values_of_every_kind_are_queued_as_they_are(section, key, old, new, params):
    write_preset("digits", params=params)
    before = parse_yaml(params.read_text())
    before[section][key] = old
    with params.open("w") as file:
        presets.YAML().dump(before, file)
    after = copy.deepcopy(before)
    after[section][key] = new
    assert applied(set_param_arguments(before, after), params) == after


def make_commit(folder: Path) -> None:
    """Make ``folder`` a project that git knows."""
    (folder / "dvc.yaml").touch()
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (["init", "-q"], ["add", "dvc.yaml"], ["commit", "-qm", "start"]):
        subprocess.run(["git", *identity, *words], cwd=folder, check=True)


@pytest.fixture
def dvc_calls(params, monkeypatch) -> list[list[str]]:
    """The commands of DVC that would have been run, in a git repository; they succeed."""
    make_commit(params.parent)
    calls, run = [], subprocess.run
    done = subprocess.CompletedProcess([], 0, "", "")

    def record(command, **options):
        return run(command, **options) if command[0] == "git" else calls.append(command) or done

    monkeypatch.setattr(presets.subprocess, "run", record)
    return calls


def test_a_queued_preset_leaves_params_as_they_are_and_names_its_images_by_an_absolute_path(params, dvc_calls, monkeypatch):
    write_preset("digits", params=params)
    before = params.read_bytes()
    monkeypatch.chdir(params.parent)
    changes = queue_preset("cifar10-tiny", "my/images", params)
    assert params.read_bytes() == before
    assert f"prepare.path='{params.parent / 'my/images'}'" in changes  # the copy that DVC makes of the project has no images
    (command,) = dvc_calls
    assert command[1:7] == ["-m", "dvc", "exp", "run", "--queue", "--name"]
    assert command[7:] == ["cifar10-tiny", *(f"--set-param={change}" for change in changes)]


def test_what_cannot_run_is_not_queued(params, dvc_calls):
    write_preset("digits", params=params)
    with pytest.raises(InputError, match="imagenet: no such folder"):
        queue_preset("imagenet-paper", params=params)
    params.write_text(params.read_text().replace("seed: 0", "seed: many", 1))
    with pytest.raises(InputError, match=r"base\.seed"):
        queue_preset("digits", params=params)
    assert dvc_calls == []


def test_why_dvc_refuses_is_said_in_one_line(params, monkeypatch):
    write_preset("digits", params=params)
    monkeypatch.chdir(params.parent)  # no DVC
    make_commit(Path())
    Path("data/raw").mkdir(parents=True)
    with pytest.raises(InputError) as caught:
        queue_preset("digits", params=params)
    assert str(caught.value).startswith("DVC cannot queue the experiment 'digits' (you are not inside of a DVC repository")
    assert "\n" not in str(caught.value)


def test_without_git_the_remedy_is_git_and_not_a_setting_of_dvc(params):
    write_preset("digits", params=params)
    with pytest.raises(InputError) as caught:
        queue_preset("digits", params=params)
    problem = f"{params.parent}: no git commit of the project, which DVC's experiments need"
    assert str(caught.value) == f"{problem}: `git init`, `dvc config core.no_scm false`, then commit the project"

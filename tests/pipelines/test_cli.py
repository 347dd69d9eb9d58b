import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import gee_core
from benchmarks.pretrained import TRAININGS
from gee_core.model.network import build_network, count_parameters
from pipelines import cli
from pipelines.project.params import load_params
from pipelines.project.presets import preset_names
from tests.pipelines.tracking.models import write_exported

# Network, genes, classes, further options, parameters of the paper's Table 2; the plain network, in millions.
CASES = [("resnet19", 100, 10, ["--block", "post"], 4_352_154, 12.70), ("vgg16_wide", 200, 100, [], 7_255_780, 19.07)]


def gee(*arguments: str):
    return CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)


@pytest.mark.parametrize(("network", "genes", "classes", "options", "parameters", "plain"), CASES)
def test_count_gives_the_papers_numbers(network, genes, classes, options, parameters, plain):
    result = gee("count", "--network", network, "--genes", str(genes), "--classes", str(classes), *options, "--json")
    values = json.loads(result.stdout)
    assert values["parameters"] == parameters
    assert values["block"] == (options[-1] if options else None)
    assert round(values["plain_parameters"] / 1e6, 2) == plain
    assert values["ratio"] == round(parameters / values["plain_parameters"], 4)
    assert len(result.stdout.splitlines()) == 1


def test_count_takes_every_size_into_account():
    sizes = {"classes": 7, "channels": 1, "size": 16, "width": 0.25}
    options = [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
    values = json.loads(gee("count", "--network", "vgg16", "--genes", "9", *options, "--json").stdout)
    assert values["parameters"] == count_parameters(build_network("vgg16", 7, 1, 16, 9, 0.25))
    assert values["plain_parameters"] == count_parameters(build_network("vgg16", 7, 1, 16, None, 0.25))
    assert (values["num_classes"], values["in_channels"], values["image_size"]) == (7, 1, 16)
    assert f"{values['parameters']:,}" in gee("count", "--network", "vgg16", "--genes", "9", *options).stdout


def test_count_warns_of_a_network_that_its_genes_make_larger():
    small = gee("count", "--network", "vgg16", "--genes", "100", "--width", "0.1")
    assert "gee: warning: larger than the plain network: take fewer --genes, or a greater --width" in small.stderr
    assert "warning" not in gee("count", "--network", "vgg16", "--genes", "100").stderr


def test_what_the_encoding_of_the_terminal_lacks_is_a_question_mark(main, bare_project, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main("preset", "use", "cifar10-tiny")[0] == 0
    out.flush()
    assert b"prepare.dataset: digits ? cifar10" in out.buffer.getvalue()


def test_a_network_of_the_package_is_trained_again_by_presets_that_there_are(bare_project):
    commands = [training.commands(None)[0] for training in TRAININGS.values()]
    assert commands and {tuple(command[1:3]) for command in commands} == {("preset", "use")}
    assert {command[3] for command in commands} <= set(preset_names())


def below(command, name: str = "gee"):
    """(name, command) for a command and all that are below it."""
    yield name, command
    for sub, one in getattr(command, "commands", {}).items():
        yield from below(one, f"{name} {sub}")


def test_every_command_has_an_example_and_every_option_a_help_text():
    commands = dict(below(typer.main.get_command(cli.app)))
    leaves = {name: command for name, command in commands.items() if not hasattr(command, "commands")}
    assert len(leaves) > 15
    assert [name for name, command in leaves.items() if f"\n{name}" not in command.help] == []
    options = [(name, option) for name, command in commands.items() for option in command.params if option.name != "help"]
    assert len(options) > 30
    assert [(name, option.name) for name, option in options if not option.help or "[" in option.help] == []


def test_help_fits_a_screen_and_the_version_is_that_of_the_library():
    for command, width in (([], "80"), (["run"], "80")):
        shown = CliRunner().invoke(cli.app, [*command, "--help"], env={"COLUMNS": width}).stdout
        assert "--help" in shown and len(shown.splitlines()) <= 40
    assert gee("--version").stdout == f"gee {gee_core.__version__}\n"


def test_a_folder_that_was_deleted_is_one_message(main, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main("summary") == (2, "", "gee: error: the current folder was deleted: go to another, or name one by -C DIR\n")


def test_preset_takes_the_folder_of_images_as_seen_by_the_user_and_says_what_changed(main, bare_project, monkeypatch):
    (bare_project / "params.yaml").unlink()
    (bare_project / "sub").mkdir()
    monkeypatch.chdir(bare_project / "sub")
    code, out, _ = main("preset", "use", "cifar10-paper", "--data", "my/images")
    assert code == 0
    assert load_params(bare_project / "params.yaml").prepare.path == "sub/my/images"
    assert "params.yaml is now the preset cifar10-paper" in out
    assert out.splitlines()[0] == "Warning: sub/my/images is not there: cifar10 will be downloaded to it"
    assert not (bare_project / "sub/my").exists()  # the name may be mistyped
    (bare_project / "sub/my/images").mkdir(parents=True)
    monkeypatch.chdir(bare_project / "sub")
    out = main("preset", "use", "cifar10-small", "--data", "my/images")[1]
    assert "network.name: resnet19 → cifarnet" in out and "Warning" not in out
    assert "reads scikit-learn's digits, no folder" in main("preset", "use", "digits", "--data", "my/images")[2]


def test_preset_list_shows_them(main, bare_project):
    out = main("preset", "list")[1]
    assert all(text in out for text in ("cifar10-small", "what for", "CIFAR-10", "not measured"))


@pytest.fixture
def example(bare_project) -> Path:
    """An image in the project, which has a model now."""
    return write_exported(bare_project / "models/export").with_name("example.png")


def test_predict_prints_a_line_per_image_that_it_finds_next_to_the_user(main, bare_project, example, monkeypatch):
    name = "a picture with a very long name " * 4 + "[red].png"
    (bare_project / "pictures/of cats").mkdir(parents=True)
    for copy in (name, "pictures/of cats/cat.png"):
        shutil.copy(example, bare_project / copy)
    assert main("predict", name, name) == (0, f"{name}: pixel 6 (90.8 %)\n" * 2, "")
    monkeypatch.chdir(bare_project / "pictures")
    assert main("predict", "of cats")[:2] == (0, "of cats/cat.png: pixel 6 (90.8 %)\n")


def test_a_model_that_is_named_is_the_one_in_the_users_folder(main, bare_project, example, monkeypatch):
    (bare_project / "other").mkdir()
    shutil.copy(example, bare_project / "other/6.png")
    monkeypatch.chdir(bare_project / "other")
    assert main("predict", "6.png")[1] == "6.png: pixel 6 (90.8 %)\n"
    monkeypatch.chdir(bare_project / "other")
    code, out, err = main("predict", "6.png", "--model", "models/export")
    assert (code, out) == (2, "") and f"{bare_project}/other/models/export: not found: name models/export, " in err
    (bare_project / "models").rename(bare_project / "other/models")
    monkeypatch.chdir(bare_project / "other")
    assert main("predict", "6.png", "--model", "models/export")[1] == "6.png: pixel 6 (90.8 %)\n"
    missing = "gee: error: models/export: not found: `dvc repro -f export` makes it (set export.genes to int8 where "
    assert main("predict", "other/6.png")[2].startswith(missing)

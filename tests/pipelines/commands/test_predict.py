"""`gee predict`: answers, the files that it reads, and the messages about files, models and networks that come with GEE."""

import json
import os
import shutil
import statistics
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from gee_core.checkpoint import load
from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.evaluation.early_exit import find_exits
from gee_core.export.model_card import CARD_ENTRY
from gee_core.gene_file import save_genes
from gee_core.pretrained.files import list_pretrained
from pipelines.commands import predict as cli
from pipelines.commands import prediction
from pipelines.commands.prediction import find_images, open_model, predict
from tests.project_copy import ROOT, run
from tests.recordings import recording, save

NAME = "cifarnet.digits"


@pytest.fixture
def images(digits, tmp_path) -> list[Path]:
    """The test digits as files."""
    paths = []
    for i, image in enumerate(load_prepared(digits).test.images):
        paths.append(tmp_path / f"{i:02}.png")
        Image.fromarray(image[0].numpy()).save(paths[-1])
    return paths


def test_classes_and_probabilities_are_the_networks_own_from_onnx_and_from_genes(net, exported, images, digits, tmp_path):
    data, card = load_prepared(digits), json.loads(exported.with_name("meta.json").read_text())
    path = tmp_path / "export/genes.safetensors"
    save_genes(path, net, "int8", card)
    for source, same in ((exported, net), (path, load(path).eval()), (path.parent, load(path).eval())):
        with torch.no_grad():
            expected, order = same(data.meta.normalise(data.test.images)).mean(0).softmax(1).topk(3)
        answers = predict(Path(), images, open_model(source), top=3)
        assert [prediction.file for prediction in answers] == images
        names = [[name for name, _ in prediction.top] for prediction in answers]
        assert names == [[str(k) for k in row] for row in order.tolist()] and len({row[0] for row in names}) > 2
        np.testing.assert_allclose([[p for _, p in prediction.top] for prediction in answers], expected, atol=1e-4)
    shutil.copy(exported, path.parent)
    assert open_model(path.parent).place == str(path.parent / "network.onnx")  # ONNX first: it needs no torch


def test_with_a_confidence_it_stops_at_the_step_at_which_it_is_so_sure(
    net, exported, images, digits, tmp_path, main, monkeypatch
):
    data, card = load_prepared(digits), json.loads(exported.with_name("meta.json").read_text())
    save_genes(tmp_path / "genes.safetensors", net, "fp32", card)
    with torch.no_grad():
        logits, steps = find_exits(net(data.meta.normalise(data.test.images)), 0.5)
    monkeypatch.setattr(prediction, "BATCH", 7)
    answers = predict(Path(), images, open_model(tmp_path, 0.5))
    assert [prediction.steps for prediction in answers] == steps.tolist()
    assert 1 < steps.double().mean() < net.T
    np.testing.assert_allclose([prediction.top[0][1] for prediction in answers], logits.softmax(1).amax(1), atol=1e-5)
    genes = ("--model", tmp_path / "genes.safetensors", "--exit")
    assert main("predict", images[0], *genes, 0)[1].endswith(", 1 step)\n")
    assert json.loads(main("predict", images[0], *genes, 1, "--json")[1])[0]["steps"] == net.T
    err = main("predict", images[0], "--model", exported, "--exit", 0.9)[2]
    assert "--exit 0.9: " in err and "runs all steps at once: give --model a genes.safetensors" in err


def test_the_answer_does_not_depend_on_the_batches_which_are_small_for_large_images(exported, images, monkeypatch):
    model, sizes = open_model(exported), []
    together = predict(Path(), images, model)
    monkeypatch.setattr(prediction, "BATCH_VALUES", 3 * 64 + 1)  # three images of 8 x 8
    counted = model._replace(classify=lambda x: sizes.append(len(x)) or model.classify(x))
    for one, other in zip(together, predict(Path(), images, counted), strict=True):
        ((name, p),) = one.top
        assert other.file == one.file and other.top == [(name, pytest.approx(p, abs=1e-5))]
    assert sizes == [3] * 8
    silent = model._replace(classify=lambda x: (np.full((len(x), 10), np.nan), [None] * len(x)))
    with pytest.raises(InputError, match="does not answer with finite probabilities of 10 classes"):
        predict(Path(), images, silent)


def test_the_images_of_a_folder_are_found_at_any_depth_in_the_order_of_their_names(images, tmp_path):
    for name in ("b.PNG", "a/c.jpeg", "a/a.png", "a/.hidden.png", ".hidden/x.png", "notes.txt"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(images[0], tmp_path / "set" / name)
    (tmp_path / "set/again").symlink_to(tmp_path / "set")  # followed, it would never end
    files = find_images(tmp_path, [Path("set"), Path("set/notes.txt")])
    assert [str(path) for path in files] == ["set/a/a.png", "set/a/c.jpeg", "set/b.PNG", "set/notes.txt"]


def test_damaged_files_are_named_and_the_others_get_their_answers(exported, images, tmp_path, main):
    (folder := tmp_path / "set").mkdir()
    for name, content in (("a.png", images[0].read_bytes()), ("b.png", b"no image"), ("c.png", images[1].read_bytes())):
        (folder / name).write_bytes(content)
    code, out, err = main("predict", folder, "--model", exported)
    assert code == 1 and [Path(line.partition(":")[0]).name for line in out.splitlines()] == ["a.png", "c.png"]
    assert err.startswith(f"gee: error: {folder / 'b.png'}: ") and len(err.splitlines()) == 1
    code, out, err = main("predict", images[0], "none.png", "--model", exported)
    assert (code, len(out.splitlines())) == (1, 1) and "none.png: not found: put it back or leave it out" in err
    Image.new("1", (8192, 8193)).save(folder / "d.png")
    err = main("predict", folder / "d.png", "--model", exported)[2]
    assert "d.png: has more pixels than is safe to decode, " in err and err.endswith(": scale it down or crop it\n")
    (folder / "d.png").unlink()
    for path in ("a.png", "c.png"):
        (folder / path).unlink()
    for i in range(28):
        (folder / f"{i:03}.png").touch()
    code, out, err = main("predict", folder, "--model", exported)
    assert (code, out, len(err.splitlines())) == (2, "", 21) and err.endswith("… and 9 more like these\n")


def test_pictures_unlike_those_of_the_training_get_a_note(exported, images, tmp_path, main):
    (folder := tmp_path / "set").mkdir()
    shutil.copy(images[0], folder / "like.png")
    others = {"b": ("RGB", (8, 8)), "c": ("L", (80, 80)), "d": ("L", (12, 20)), "e": ("L", (7, 7)), "f": ("L", (64, 64))}
    for name, (mode, size) in others.items():
        Image.new(mode, size).save(folder / f"{name}.png")
    _, out, err = main("predict", folder, "--model", exported)
    note = f"trained on grey images of 8 pixels a side, unlike {folder}/b.png (in colour, 8 × 8 pixels) and 3 more files"
    assert (len(out.splitlines()), err) == (6, f"gee: note: the network was {note}\n")
    assert main("predict", folder / "like.png", folder / "f.png", "--model", exported)[2] == ""


def test_the_command_answers_in_lines_or_json_and_says_when_it_is_not_sure(exported, images, monkeypatch, main):
    middle = statistics.median(prediction.top[0][1] for prediction in predict(Path(), images, open_model(exported)))
    monkeypatch.setattr(cli, "SURE", middle)
    lines = main("predict", *images, "--model", exported)[1].splitlines()
    rows = json.loads(main("predict", *images, "--model", exported.parent, "--top", 2, "--json")[1])
    assert any("not sure" in line for line in lines) and not all("not sure" in line for line in lines)
    for line, row in zip(lines, rows, strict=True):
        doubt = ", not sure" if row["probability"] < middle else ""
        assert line == f"{row['file']}: {row['class']} ({100 * row['probability']:.1f} %{doubt})"
        assert row["top"][0] == {"class": row["class"], "probability": row["probability"]}
        assert len(row["top"]) == 2


def test_names_of_files_and_classes_cannot_break_a_line_or_colour_it(exported, images, tmp_path, main):
    model = onnx.load(exported)
    (entry,) = [entry for entry in model.metadata_props if entry.key == CARD_ENTRY]
    about = json.loads(entry.value)
    entry.value = json.dumps(about | {"class_names": [f"\x1b[31m{name}\n" for name in about["class_names"]]})
    onnx.save(model, tmp_path / "coloured.onnx")
    file = images[0].rename(images[0].with_name("a\nb.png"))
    (line,) = main("predict", file, "--model", tmp_path / "coloured.onnx")[1].splitlines()
    assert line.isprintable() and "a\\nb.png" in line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "pipe.onnx"], "pipe.onnx: not found: name models/export, an ONNX file of an export, "),
        (["--model", "https://u:word@host/m"], "https:/***@host/m: not found"),
        (["--pretrained", "cifarnet.digit"], "did you mean cifarnet.digits?"),
        (["--pretrained", NAME, "--model", "https://u:word@x"], "these are two networks: leave out one of the two"),
    ],
)
def test_a_model_that_is_none_is_refused_and_no_password_is_printed(options, says, images, main, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.onnx")  # not waited for
    code, _, err = main("predict", images[0], *options)
    assert code == 2 and says in err and "word@" not in err


def test_networks_that_come_with_gee_are_listed_and_classify_without_torch(main, images, digits, tmp_path, monkeypatch):
    labels = load_prepared(digits).test.labels[:8].tolist()
    monkeypatch.chdir(tmp_path)  # no project
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = main("pretrained")
    assert code == 0 and all(name in out for name in list_pretrained()) and "parameters" in out and "…" not in out
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "torch", None)  # an import of it would fail
        code, out, err = main("predict", *images[:8], "--pretrained", NAME, "--top", 2)
    assert (code, err) == (0, f"gee: note: {NAME} knows 10 classes only: {', '.join('0123456789')}\n")
    lines = zip(images[:8], labels, out.splitlines(), strict=True)
    assert sum(line.startswith(f"{image}: {label} (") for image, label, line in lines) >= 7
    assert ", 1 step)" in main("predict", images[0], "--pretrained", NAME, "--exit", 0)[1]
    save(tmp_path / "saw.npy", recording(0))
    assert main("predict", tmp_path / "saw.npy", "--pretrained", "cifarnet.nmnist")[0] == 0
    for file, name, takes in ((images[0], "cifarnet.nmnist", "recordings"), (tmp_path / "saw.npy", NAME, "images")):
        code, _, err = main("predict", file, "--pretrained", name)
        assert code == 2 and f"{file}: the network takes {takes} (." in err and "leave it out, or name another" in err


HEAVY = {"torch", "torchvision", "mlflow", "pandas", "matplotlib", "sklearn", "onnx", "dvc", "prefect"}


def test_the_command_loads_no_heavy_package_and_writes_nothing_below_the_home_folder(exported, images, tmp_path):
    code = (
        "import sys; from pipelines.cli import main\n"
        "try: main()\n"
        f"except SystemExit: print(sorted({HEAVY} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, "predict", str(images[0]), "--model", str(exported)]
    (home := tmp_path / "home").mkdir()
    answer, loaded = run(ROOT, *command, HOME=str(home)).splitlines()
    assert not list(home.iterdir())
    assert answer.startswith(f"{images[0]}: ")
    assert loaded == "[]"

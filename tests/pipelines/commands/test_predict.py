import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from gee_core.checkpoint import load
from gee_core.data.prepared import load_prepared
from gee_core.errors import InputError
from gee_core.evaluation.early_exit import exits
from gee_core.export.model_card import CARD_ENTRY
from gee_core.gene_file import save_genes
from pipelines.commands import predict as cli
from pipelines.commands import prediction
from pipelines.commands.images import find_images, unlike
from pipelines.commands.prediction import open_model, predict

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def images(digits, tmp_path) -> list[Path]:
    """The test digits as files."""
    paths = []
    for i, image in enumerate(load_prepared(digits).test.images):
        paths.append(tmp_path / f"{i:02}.png")
        Image.fromarray(image[0].numpy()).save(paths[-1])
    return paths


def test_classes_and_probabilities_are_the_networks_own(net, exported, images, digits):
    data = load_prepared(digits)
    with torch.no_grad():
        p = net(data.meta.normalise(data.test.images)).mean(0).softmax(1)
    found = predict(Path(), images, open_model(exported), top=3)
    assert [prediction.file for prediction in found] == images
    expected, order = p.topk(3)
    assert [[name for name, _ in prediction.top] for prediction in found] == [[str(k) for k in row] for row in order.tolist()]
    np.testing.assert_allclose([[p for _, p in prediction.top] for prediction in found], expected, atol=1e-4)
    assert len({prediction.top[0] for prediction in found}) > 2


def test_a_file_of_genes_answers_by_itself_as_the_network_that_it_holds(net, exported, images, digits, tmp_path):
    data, card = load_prepared(digits), json.loads(exported.with_name("meta.json").read_text())
    path = tmp_path / "export/genes.safetensors"
    save_genes(path, net, "int8", card)
    assert [file.name for file in path.parent.iterdir()] == ["genes.safetensors"]
    with torch.no_grad():
        expected, order = load(path).eval()(data.meta.normalise(data.test.images)).mean(0).softmax(1).topk(3)
    for source in (path, path.parent):
        found = predict(Path(), images, open_model(source), top=3)
        names = [[name for name, _ in prediction.top] for prediction in found]
        assert names == [[str(k) for k in row] for row in order.tolist()]
        np.testing.assert_allclose([[p for _, p in prediction.top] for prediction in found], expected, atol=1e-5)
    shutil.copy(exported, path.parent)
    assert open_model(path.parent).place == str(path.parent / "network.onnx")  # ONNX first: it needs no torch


def test_with_a_confidence_it_stops_at_the_step_at_which_it_is_so_sure(
    net, exported, images, digits, tmp_path, monkeypatch, capsys
):
    data, card = load_prepared(digits), json.loads(exported.with_name("meta.json").read_text())
    save_genes(tmp_path / "genes.safetensors", net, "fp32", card)
    with torch.no_grad():
        logits, steps = exits(net(data.meta.normalise(data.test.images)), 0.5)
    monkeypatch.setattr(prediction, "BATCH", 7)
    found = predict(Path(), images, open_model(tmp_path, 0.5))
    assert [prediction.steps for prediction in found] == steps.tolist()
    assert 1 < steps.double().mean() < net.T
    np.testing.assert_allclose([prediction.top[0][1] for prediction in found], logits.softmax(1).amax(1), atol=1e-5)
    here = SimpleNamespace(obj=tmp_path)
    cli.predict(here, images[:1], model="genes.safetensors", exit=0.0)
    assert capsys.readouterr().out.endswith(", 1 step)\n")
    cli.predict(here, images[:1], model="genes.safetensors", exit=1.0, as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["steps"] == net.T
    with pytest.raises(InputError, match=r"--exit 0.9: .*runs all steps at once: give --model a genes\.safetensors"):
        open_model(exported, 0.9)


def test_the_answer_does_not_depend_on_the_batches(exported, images, monkeypatch):
    model = open_model(exported)
    together = predict(Path(), images, model)
    monkeypatch.setattr(prediction, "BATCH", 3)
    for one, other in zip(together, predict(Path(), images, model), strict=True):
        ((name, p),) = one.top
        assert other.file == one.file and other.top == [(name, pytest.approx(p, abs=1e-5))]


def test_large_images_are_read_few_at_a_time(exported, images, monkeypatch):
    model, sizes = open_model(exported), []
    monkeypatch.setattr(prediction, "BATCH_VALUES", 2 * 64 + 1)  # two images of 8 x 8
    monkeypatch.setattr(prediction.Model, "answers", lambda _, x: sizes.append(len(x)) or model.classify(x))
    assert len(predict(Path(), images[:5], model)) == 5
    assert sizes == [2, 2, 1]


def test_the_images_of_a_folder_are_found_at_any_depth_in_the_order_of_their_names(images, tmp_path):
    for name in ("b.PNG", "a/c.jpeg", "a/a.png", "a/.hidden.png", ".hidden/x.png", "notes.txt"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(images[0], tmp_path / "set" / name)
    (tmp_path / "set/again").symlink_to(tmp_path / "set")  # followed, it would never end
    (tmp_path / "set/lost.png").symlink_to("nowhere")
    found = find_images(tmp_path, [Path("set"), Path("set/notes.txt")])
    assert [str(path) for path in found] == ["set/a/a.png", "set/a/c.jpeg", "set/b.PNG", "set/notes.txt"]


def test_of_many_files_that_cannot_be_read_twenty_are_named_and_the_others_counted(exported, tmp_path):
    for i in range(29):
        (tmp_path / f"{i:03}.png").touch()
    with pytest.raises(InputError) as caught:
        predict(tmp_path, [Path(f"{i:03}.png") for i in range(29)], open_model(exported))
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines[:20]] == [f"{i:03}.png" for i in range(20)]
    assert lines[20:] == ["… and 9 more like these"]


def test_a_damaged_file_in_a_folder_is_named_and_the_others_get_their_answers(exported, images, tmp_path, main):
    for name, content in (("a.png", images[0].read_bytes()), ("b.png", b"no image"), ("c.png", images[1].read_bytes())):
        (tmp_path / "set" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(content)
    code, out, err = main("predict", tmp_path / "set", "--model", exported)
    assert code == 1 and [Path(line.partition(":")[0]).name for line in out.splitlines()] == ["a.png", "c.png"]
    assert err.startswith(f"gee: error: {tmp_path / 'set/b.png'}: ") and len(err.splitlines()) == 1
    (tmp_path / "set/a.png").unlink()
    (tmp_path / "set/c.png").unlink()
    assert main("predict", tmp_path / "set", "--model", exported)[:2] == (2, "")


def test_pictures_unlike_those_of_the_training_get_a_note(exported, images, tmp_path, main):
    (folder := tmp_path / "set").mkdir()
    shutil.copy(images[0], folder / "like.png")
    others = {"b": ("RGB", (8, 8)), "c": ("L", (80, 80)), "d": ("L", (12, 20)), "e": ("L", (7, 7)), "f": ("L", (64, 64))}
    for name, (mode, size) in others.items():
        Image.new(mode, size).save(folder / f"{name}.png")
    assert [line[:1] for line in unlike(folder, [Path(f"{name}.png") for name in others], 1, 8)] == ["b", "c", "d", "e"]
    _, out, err = main("predict", folder, "--model", exported)
    note = f"trained on grey images of 8 pixels a side, unlike {folder}/b.png (in colour, 8 × 8 pixels) and 3 more files"
    assert (len(out.splitlines()), err) == (6, f"gee: note: the network was {note}\n")
    assert main("predict", folder / "like.png", "--model", exported)[2] == ""


def test_a_pipe_for_a_model_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(InputError, match=r"pipe\.onnx: not a file: name an ONNX file of an export, "):
        open_model(tmp_path / "pipe.onnx")


def test_the_command_answers_in_lines_or_json_and_says_when_it_is_not_sure(exported, images, monkeypatch, capsys):
    middle = statistics.median(prediction.top[0][1] for prediction in predict(Path(), images, open_model(exported)))
    monkeypatch.setattr(cli, "SURE", middle)
    context = SimpleNamespace(obj=images[0].parent)
    names = [Path(path.name) for path in images]
    cli.predict(context, names, str(exported))
    cli.predict(context, names, str(exported.parent), top=2, as_json=True)
    out = capsys.readouterr().out
    lines, rows = out.splitlines()[: len(images)], json.loads("\n".join(out.splitlines()[len(images) :]))
    assert any("not sure" in line for line in lines) and not all("not sure" in line for line in lines)
    for line, row in zip(lines, rows, strict=True):
        doubt = ", not sure" if row["probability"] < middle else ""
        assert line == f"{row['file']}: {row['class']} ({100 * row['probability']:.1f} %{doubt})"
        assert row["top"][0] == {"class": row["class"], "probability": row["probability"]}
        assert len(row["top"]) == 2


def test_names_of_files_and_classes_cannot_break_a_line_or_colour_it(exported, images, tmp_path, capsys):
    model = onnx.load(exported)
    (entry,) = [entry for entry in model.metadata_props if entry.key == CARD_ENTRY]
    about = json.loads(entry.value)
    entry.value = json.dumps(about | {"class_names": [f"\x1b[31m{name}\n" for name in about["class_names"]]})
    onnx.save(model, tmp_path / "coloured.onnx")
    file = images[0].rename(images[0].with_name("a\nb.png"))
    cli.predict(SimpleNamespace(obj=Path()), [file], str(tmp_path / "coloured.onnx"))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable() and "a\\nb.png" in line


HEAVY = {"torch", "torchvision", "mlflow", "pandas", "matplotlib", "sklearn", "onnx", "dvc", "prefect"}


def test_the_command_loads_no_heavy_package(exported, images):
    code = (
        "import sys; from pipelines.cli import main\n"
        "try: main()\n"
        f"except SystemExit: print(sorted({HEAVY} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, "predict", str(images[0]), "--model", str(exported)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    answer, loaded = done.stdout.splitlines()
    assert answer.startswith(f"{images[0]}: ")
    assert loaded == "[]"

"""`gee data check`: what prepare would read, and what would stop it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gee_core.config import PrepareConfig
from pipelines import prepare

TWO = {"cat": 10, "dog": 40}


def draw(folder: Path, counts: dict[str, int], size=(8, 8), seed=0) -> Path:
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture
def check(tmp_path, in_project, monkeypatch, main):
    """Runs the command on the folder `pets` beside a project's params.yaml: exit code, output, messages."""
    in_project(prepare={"test_share": 0.2, "holdout": 0.25})
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.setenv("GEE_LOADER_WORKERS", "0")

    def run(*arguments: str) -> tuple[int, str, list[str]]:
        code, out, err = main("data", "check", "pets", *arguments)
        return code, out, [line for line in err.splitlines() if line.startswith("gee: error: ")]

    return run


def test_the_counts_and_params_are_those_of_prepare(check, tmp_path):
    draw(tmp_path / "pets/train", TWO)
    code, out, errors = check("--json")
    found = json.loads(out)
    assert (code, errors, found["problems"]) == (0, [], [])
    assert found["params"] == {"dataset": "folder", "path": "pets", "name": "pets", "image_size": None}
    rest = {"max_train_images": None, "max_test_images": None, "test_share": 0.2, "holdout": 0.25}
    meta = prepare.run(PrepareConfig(**found["params"], **rest, stream=False, events=None), tmp_path / "out")
    assert found["counts"] == {"train": {"cat": 6, "dog": 24}, "hold-out": {"cat": 2, "dog": 8}, "test": {"cat": 2, "dog": 8}}
    assert (meta.n_train, meta.n_test, meta.n_holdout, meta.dataset) == (40, 10, 10, "pets")
    assert meta.unevenness and meta.in_channels == 3 and "read as RGB" in found["facts"]["mode"]


def test_the_table_tells_what_a_user_has_to_know(check, tmp_path):
    for split, seed in (("train", 0), ("val", 1), ("test", 2)):
        draw(tmp_path / "pets" / split, TWO, (40, 60), seed)
    shutil.copy(tmp_path / "pets/train/dog/03.png", tmp_path / "pets/test/dog/07.png")
    shutil.copy(tmp_path / "pets/val/dog/05.png", tmp_path / "pets/test/dog/08.png")
    Image.new("L", (20, 12)).save(tmp_path / "pets/train/cat/00.png")
    Image.new("RGB", (24, 24)).save(tmp_path / "pets/train/cat/01.png")
    (tmp_path / "pets/train/cat/a.gif").write_bytes(b"")
    draw(tmp_path / "pets/eval", {"cat": 2})
    (tmp_path / "pets/train/cat/.DS_Store").write_bytes(b"")
    (tmp_path / "pets/train/cat/b.\x1b[31m").write_bytes(b"")
    code, out, errors = check("--decode")
    text = " ".join(out.split())
    assert (code, errors) == (0, [])
    for says in (
        "hold-out val/ test test/",
        "3 sizes from 20x12 to 60x40, the median of the shorter sides is 40",
        "RGB 149, L 1; read as RGB",
        "ignored 1 .\\x1b[31m, 1 .gif",
        "not read 2 images in eval/, 1 .gif",
        "2 test images are also training images: test/dog/07.png = train/dog/03.png, test/dog/08.png = val/dog/05.png",
        "1 images would be enlarged more than twofold: train/cat/00.png",
        "one colour 2 images show nothing else: train/cat/00.png, train/cat/01.png",
        "prepare: dataset: folder path: pets name: pets image_size: 32",
    ):
        assert says in text


def test_everything_that_would_stop_prepare_is_named_and_the_exit_code_is_2(check, tmp_path):
    draw(tmp_path / "pets/train", {"cat": 3, "dog": 3})
    draw(tmp_path / "pets/test", {"cat": 1, "emu": 1})
    (tmp_path / "pets/train/dog/01.png").write_bytes(b"a dog")
    (tmp_path / "pets/test/cat/00.png").unlink()
    code, out, errors = check()
    assert code == 2 and "– │" in out
    problems = (
        "class 'emu' has no folder",
        "class 'dog' has no folder",
        "test/cat: holds no images",
        "dog/01.png: not a readable",
    )
    assert [problem in line for problem, line in zip(problems, errors, strict=True)] == [True] * 4


def link(pets: Path) -> None:
    (pets / "cat").rename(pets.with_name("cats"))
    (pets / "cat").symlink_to("../cats")


def cut(pets: Path) -> None:
    (pets / "dog/01.png").write_bytes((pets / "dog/01.png").read_bytes()[:90])


def deepen(pets: Path) -> None:
    Image.fromarray(np.full((8, 8), 900, np.uint16)).save(pets / "cat/00.png")


def thin(pets: Path) -> None:
    for path in (pets / "cat").glob("0[1-9].png"):
        path.unlink()


def blacken(pets: Path) -> None:
    for path in pets.rglob("*.png"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)


@pytest.mark.parametrize(
    ("change", "decode", "says"),
    [
        (link, False, "pets/cat: is a link to a folder, and DVC would notice no change"),
        (cut, True, "pets/dog/01.png: not a readable image"),
        (cut, False, None),  # which a header does not show
        (deepen, False, "1 of 50 images have 16 bits per pixel, such as cat/00.png, the others 8: save all"),
        (thin, False, "test_share = 0.2: leaves class 'cat' no image to train on: add images"),
        (blacken, True, "pets: all training images are of one and the same colour"),
        (blacken, False, None),
    ],
)
def test_a_problem_is_named_and_the_rest_is_shown(check, tmp_path, change, decode, says):
    change(draw(tmp_path / "pets", TWO))
    code, out, errors = check(*["--decode"] * decode)
    assert "all 2" in out and (code, len(errors)) == ((2, 1) if says else (0, 0))
    assert says is None or says in errors[0]


def test_a_link_that_leads_back_to_itself_is_one_message(check, tmp_path, main):
    link = draw(tmp_path / "pets", TWO) / "cat/loop"
    link.symlink_to("loop")
    says = "too many levels of symbolic links: a link leads back to itself: remove it"
    assert check()[::2] == (2, [f"gee: error: pets/cat/loop: {says}"])
    assert main("predict", "pets", "--pretrained", "cifarnet.cifar10") == (2, "", f"gee: error: {link}: {says}\n")

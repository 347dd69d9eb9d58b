"""What the pages name is there: files of the repository, modules and benchmarks."""

import re

import pytest

from gee_core.data.meta import Meta
from gee_core.export.model_card import ModelCard
from gee_core.model.base import Architecture
from pipelines.inputs.genotype_file import Controls, GenotypeFile

FOLDERS = "gee_core|pipelines|tests|benchmarks|studies|presets|notebooks|docs|\\.ci"


def test_every_file_and_module_that_a_page_names_exists(root):
    text = "\n".join(page.read_text(encoding="utf-8") for page in (root / "docs").rglob("*.md"))
    modules = re.findall(r"python -m ((?:benchmarks|pipelines)[.\w]*\w)", text)
    named = {*re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", text), *(f"{name.replace('.', '/')}.py" for name in modules)}
    assert len(named) > 20
    assert [path for path in sorted(named) if not (root / path).exists()] == []


def test_every_link_between_files_works_in_the_repository_too(root):
    pages = [*root.glob("*.md"), *root.glob("*/README.md"), root / "data/raw/README.md", *(root / "docs").rglob("*.md")]
    link_to_file = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
    links = [(page, link) for page in pages for link in link_to_file.findall(page.read_text(encoding="utf-8"))]
    assert len(links) > 100
    assert [(str(page.relative_to(root)), link) for page, link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    "model, file",
    [
        (Meta, "data/prepared/meta.json"),
        (GenotypeFile, "models/evolve/genotype.json"),
        (Controls, "models/evolve/controls.json"),
        (Architecture, "models/train/network.safetensors"),
        (ModelCard, "models/export/network.onnx"),
    ],
)
def test_the_page_of_files_names_every_key_of_the_json_files(root, model, file):
    lines = (root / "docs/FILES.md").read_text(encoding="utf-8").splitlines()
    (row,) = [line for line in lines if line.startswith(f"| `{file}`")]
    assert [key for key in model.model_fields if not re.search(rf"\b{key}\b", row)] == []

"""What the pages name is there: files of the repository, modules and benchmarks."""

import re

FOLDERS = "gee_core|pipelines|tests|benchmarks|studies|presets|notebooks|docs|\\.ci"


def test_every_file_that_a_page_names_exists(root):
    named = {
        (page.relative_to(root).as_posix(), path)
        for page in (root / "docs").rglob("*.md")
        for path in re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 15
    assert [(page, path) for page, path in sorted(named) if not (root / path).exists()] == []


def test_every_module_that_a_page_runs_exists(root):
    text = "\n".join(page.read_text(encoding="utf-8") for page in (root / "docs").rglob("*.md"))
    modules = set(re.findall(r"python -m ((?:benchmarks|pipelines)\.\w+)", text))
    assert len(modules) > 5
    assert [name for name in sorted(modules) if not (root / f"{name.replace('.', '/')}.py").exists()] == []


def test_no_page_installs_the_package_by_a_name_that_belongs_to_others(root):
    for page in (root / "docs").rglob("*.md"):
        assert not re.search(r"pip install +[\"']?gee(?![\w-])", page.read_text(encoding="utf-8")), page

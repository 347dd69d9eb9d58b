"""dvc.yaml lists what each stage's results depend on, code and sections of params.yaml: all of it and no more."""

import ast
import functools
import sys
from pathlib import Path

import pytest

from gee_core.config import Params
from pipelines.project.safe_yaml import read_yaml
from tests.project_copy import ROOT, run

STAGES = read_yaml(ROOT / "dvc.yaml")["stages"]

AROUND = (
    "gee_core/errors.py",
    "gee_core/settings.py",
    "pipelines/stage.py",
    "pipelines/tracking/",
    "pipelines/inputs/own_network.py",
    "pipelines/runtime/progress.py",
    "pipelines/runtime/process_tree.py",
    "pipelines/runtime/input_errors.py",
    "pipelines/engines/ranks.py",
    "pipelines/runtime/run_files.py",
    "pipelines/runtime/run_folder.py",
    "pipelines/runtime/settings.py",
    "pipelines/runtime/redact.py",
    "pipelines/project/paths.py",
    "pipelines/project/params.py",
)
"""Code around a stage's work: it reads params, checks where files lie, imports the own network (the folder networks is its
source), tracks, shows progress and reports errors, and changes no result."""

TABLE = "gee_core/zoo.py"
"""The table of networks, which the sections of params.yaml know by name; prepare builds none."""

ENGINES = tuple(f"pipelines/engines/{name}.py" for name in ("pools", "select", "dask"))
"""Where jobs run; a result does not depend on it."""

FIGURES = ("pipelines/figures/", "pipelines/reporting/")
"""Figures and tables that other stages give to the tracker; report's results are made of them."""

README, TEMPLATE = "pipelines/reporting/model_readme.py", "pipelines/reporting/templates/model_readme.md"
"""The README of the exported model, which export writes, and its template."""


def module_file(name: str) -> Path | None:
    """The file of a module of this project."""
    path = ROOT / name.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@functools.cache
def imported_files(path: Path) -> set[Path]:
    """The files of this project that ``path`` imports, at any depth of its own code, but for its types alone."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    types_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        names = []
        if id(node) in types_only:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        files = {module_file(name) for name in names if name.split(".")[0] in ("gee_core", "pipelines")} - {None}
        found |= {file for file in files if file.name != "__init__.py" or is_deepest(file, files)}
    return found


def is_deepest(package: Path, files: set[Path]) -> bool:
    """Whether none of the other files lies inside a package, the file of which is its __init__.py."""
    return not any(package.parent in other.parents for other in files - {package})


def closure(stage: str) -> set[str]:
    """The code of this project that a stage's result depends on, as paths below the project folder."""
    excluded = (*AROUND, *ENGINES) + (() if stage == "report" else FIGURES) + ((TABLE,) if stage == "prepare" else ())
    start = ROOT / f"pipelines/{stage}.py"
    found, new = {start}, [start]
    while new:
        for file in imported_files(new.pop()) - found:
            name = file.relative_to(ROOT).as_posix()
            if name == README or not name.startswith(excluded):
                found.add(file)
                new.append(file)
    return {file.relative_to(ROOT).as_posix() for file in found}


def used_files(stage: str) -> set[str]:
    """The code of ``closure``, and the template that goes with it."""
    code = closure(stage)
    return code | ({TEMPLATE} if README in code else set())


def listed_code(stage: str) -> set[str]:
    return {path for path in STAGES[stage]["deps"] if path.startswith(("gee_core", "pipelines"))}


def covers(listed: str, file: str) -> bool:
    return file == listed or file.startswith(f"{listed}/")


WITH_RESULTS = sorted(set(STAGES) - {"check"})
"""What check writes never changes."""


@pytest.mark.parametrize("stage", WITH_RESULTS)
def test_dvc_reruns_a_stage_when_code_that_its_result_depends_on_changes(stage):
    assert not {file for file in used_files(stage) if not any(covers(path, file) for path in listed_code(stage))}


@pytest.mark.parametrize("stage", WITH_RESULTS)
def test_dvc_reruns_no_stage_for_code_that_it_does_not_use(stage):
    used = used_files(stage)
    assert not {path for path in listed_code(stage) if not any(covers(path, file) for file in used)}


def test_dvc_reruns_check_when_one_of_its_checks_changes():
    around = (*AROUND, "pipelines/stage.py", "gee_core/genome/", "gee_core/storage/")
    imported = {file.relative_to(ROOT).as_posix() for file in imported_files(ROOT / "pipelines/check.py")}
    wanted = {file for file in imported if not file.startswith(around)} | {"pipelines/check.py"}
    assert not {file for file in wanted if not any(covers(path, file) for path in listed_code("check"))}


def functions(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def reads(name: str) -> set[str]:
    """The sections of params.yaml that ``main`` of a stage, or a function of pipelines that it calls, reads."""
    files = [ROOT / file for file in closure(name) if file.startswith("pipelines/")]
    known = {path.stem: functions(ast.parse(path.read_text(encoding="utf-8"))) for path in files}
    everything = {function: node for module in known.values() for function, node in module.items()}
    everything |= known[name]  # its own `run` before another stage's
    found, seen, new = set(), set(), ["main"]
    while new:
        function = new.pop()
        if function in seen or function not in everything:
            continue
        seen.add(function)
        for node in ast.walk(everything[function]):
            if isinstance(node, ast.Attribute) and node.attr in Params.model_fields and ends_in_params(node.value):
                found.add(node.attr)
            elif isinstance(node, ast.Name):
                new.append(node.id)
    return found


def ends_in_params(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id in {"params", "task"}) or (
        isinstance(node, ast.Attribute) and node.attr in {"params", "_task"}
    )


# What functions of the core read; check looks at every section, report shows them.
THROUGH_THE_CORE = {
    "evolve": {"network", "train"},  # what evolve.proxy has of train
    "train": {"network"},
    "plain": {"evaluate"},
    "evaluate": {"network"},
    "robustness": {"network"},
    "export": {"network", "train"},
}


@pytest.mark.parametrize("name", sorted(set(STAGES) - {"check", "report"}))
def test_dvc_reruns_a_stage_for_exactly_the_sections_that_it_reads(name):
    assert {key.partition(".")[0] for key in STAGES[name]["params"]} == reads(name) | THROUGH_THE_CORE.get(name, set())


def test_dvc_sees_class_folders_of_any_name_and_ignores_what_lies_beside_the_stages():
    files = [f"{folder}/a.png" for folder in ("build", "dist", "site", "mlartifacts", ".venv", ".scratch", ".prefect")]
    watched = [f"data/raw/train/{file}" for file in files]
    assert run(ROOT, sys.executable, "-m", "dvc", "check-ignore", *files, *watched).split() == files

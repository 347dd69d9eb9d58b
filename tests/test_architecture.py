"""Who may import whom: params.yaml → pipelines → gee_core, never back, and an order inside the core."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = sorted((ROOT / "gee_core").rglob("*.py"))
ALL = sorted([*CORE, *(ROOT / "pipelines").rglob("*.py")])

FORBIDDEN_IN_CORE = {
    "mlflow",
    "prefect",
    "dvc",
    "yaml",
    "ruamel",
    "pandas",
    "typer",
    "rich",
    "dask",
    "distributed",
    "pipelines",
}

# Left never imports right. Entries of one rank do not import each other.
ORDER = (
    ("errors",),
    ("settings",),
    ("seeding", "storage", "hardware"),  # the last two raise InputError
    ("snn", "genome"),
    ("model",),
    ("config",),  # reads the names in model.zoo and snn.lif: values are checked against them
    ("data",),
    ("checkpoint",),  # holds the network's section and the shape of the data
    ("training",),
    ("evolution", "evaluation"),
    ("export",),
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}

# The only file that may import it, in the core and around it.
OWNER = {
    "cma": "gee_core/evolution/cma_es.py",
    "onnx": "gee_core/export/to_onnx.py",
    "mlflow": "pipelines/tracking/mlflow_client.py",
    "prefect": "pipelines/orchestration/flow.py",
    "dask": "pipelines/engines/dask.py",
    "distributed": "pipelines/engines/dask.py",
}


def imported_modules(path: Path) -> list[str]:
    """Every absolute module that ``path`` imports, at any depth, ``from a import b`` as ``a.b`` too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room(path: Path) -> str:
    """The entry of ORDER that a file of the core belongs to."""
    first = path.relative_to(ROOT / "gee_core").parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_the_core_never_imports_orchestration(path):
    roots = {module.split(".")[0] for module in imported_modules(path)}
    assert not FORBIDDEN_IN_CORE & roots


@pytest.mark.parametrize("path", [path for path in CORE if path.parent.name != "gee_core"], ids=relative)
def test_every_folder_of_the_core_has_a_place_in_the_order(path):
    assert room(path) in RANK


@pytest.mark.parametrize("path", [path for path in CORE if room(path) != "__init__"], ids=relative)
def test_inside_the_core_left_never_imports_right(path):
    own = room(path)
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] != "gee_core" or len(parts) < 2 or parts[1] == own:
            continue
        assert RANK[parts[1]] < RANK[own], f"{relative(path)} imports {module}"


@pytest.mark.parametrize("package", OWNER)
def test_one_file_owns_each_outside_system(package):
    importers = {relative(path) for path in ALL if any(m.split(".")[0] == package for m in imported_modules(path))}
    assert importers == {OWNER[package]}


def test_the_check_sees_imports_inside_functions_and_of_submodules(tmp_path):
    source = tmp_path / "a.py"
    source.write_text("def f():\n    import mlflow.onnx\n    from gee_core import config\n")
    assert imported_modules(source) == ["mlflow.onnx", "gee_core", "gee_core.config"]


def test_importing_the_whole_core_loads_no_orchestration():
    modules = [relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in CORE]
    heavy = ["mlflow", "prefect", "dvc", "pandas", "ruamel", "typer"]
    code = (
        "import importlib, sys\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        f"print(sorted(set({heavy}) & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


# Left never imports right; entries of one rank do not import each other.
PIPELINE_ORDER = (
    ("project",),
    ("runtime",),
    ("inputs",),
    ("tracking", "engines"),
    ("reporting",),
    ("stage",),
    ("check", "prepare", "evolve", "train", "evaluate", "robustness", "export", "report"),
    ("studies", "orchestration"),
    ("commands",),
    ("cli",),
)
PIPELINE_RANK = {name: rank for rank, names in enumerate(PIPELINE_ORDER) for name in names}


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").rglob("*.py")), ids=relative)
def test_inside_pipelines_left_never_imports_right(path):
    own = path.relative_to(ROOT / "pipelines").parts[0].removesuffix(".py")
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] == "pipelines" and len(parts) > 1 and parts[1] not in (own, "__init__"):
            assert PIPELINE_RANK[parts[1]] < PIPELINE_RANK[own], f"{relative(path)} imports {module}"

"""Who may import whom: params.yaml → pipelines → gee_core, never back, and an order inside the core."""

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

from gee_core.config import Params
from tests.project_copy import ROOT, run

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
    ("settings", "rank"),
    ("seeding", "storage", "compute", "zoo"),  # the table of networks is data, without torch
    ("config",),  # a leaf: reads the names of the networks, imports no torch
    ("snn", "genome", "data"),
    ("model",),
    ("gene_file",),
    ("update_file",),
    ("checkpoint",),
    ("training",),
    ("evaluation",),
    ("evolution",),
    ("export",),
    ("pretrained",),
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}

# The only files, or folder, that may import it, in the core and around it.
OWNER = {
    "cma": ("gee_core/evolution/search.py",),
    "nir": ("gee_core/export/to_nir.py", "gee_core/export/nir_"),
    "onnx": ("gee_core/export/to_onnx.py", "gee_core/export/onnx_genes.py"),
    "mlflow": tuple(f"pipelines/tracking/{name}.py" for name in ("mlflow_client", "mlflow_models", "served_model")),
    "prefect": ("pipelines/orchestration/",),
    "distributed": ("pipelines/engines/dask.py",),
}


# Tests of several modules, or of a property of all: beside the modules of their folder.
CROSS_CUTTING = {
    "benchmarks/test_commands.py",
    "gee_core/data/test_torchvision_sets.py",
    "gee_core/export/test_onnx.py",
    "gee_core/genome/test_shape.py",
    "gee_core/model/test_frames.py",
    "gee_core/model/test_older_cpus.py",
    "gee_core/model/test_pre_activation.py",
    "gee_core/model/test_zoo.py",
    "gee_core/test_autocast.py",
    "gee_core/test_docstrings.py",
    "gee_core/test_no_numbers.py",
    "gee_core/test_public_face.py",
    "pipelines/commands/test_json_output.py",
    "pipelines/commands/test_pretrained.py",
    "pipelines/commands/test_queue_preset.py",
    "pipelines/inputs/test_encoded_network.py",
    "pipelines/test_dvc_deps.py",
    "pipelines/test_events.py",
    "pipelines/test_imports.py",
    "pipelines/test_measured_in_processes.py",
    "pipelines/test_pipeline.py",
    "pipelines/tracking/test_searches.py",
}


@functools.cache
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


def module_of(path: Path) -> str:
    return relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {module_of(path): path for path in ALL}


def room(module: str) -> str | None:
    """The entry of ORDER that a module of the core belongs to; None for other modules and for the package itself."""
    package, _, rest = module.partition(".")
    if package != "gee_core" or not rest:
        return None
    return rest.split(".")[0]


def imports_of(module: str) -> set[str]:
    """The modules of the two packages that ``module`` imports."""
    found = imported_modules(MODULES[module])
    return {name for name in found if name in MODULES and name != module}


def test_the_core_never_imports_orchestration():
    roots = {relative(path): {module.split(".")[0] for module in imported_modules(path)} for path in CORE}
    assert {path: found & FORBIDDEN_IN_CORE for path, found in roots.items() if found & FORBIDDEN_IN_CORE} == {}


def test_inside_the_core_left_never_imports_right():
    wrong = []
    for module in filter(room, MODULES):
        others = {imported: room(imported) for imported in imported_modules(MODULES[module])}
        assert room(module) in RANK, f"{module} has no place in the order"
        wrong += [
            f"{module} imports {imported}"
            for imported, other in others.items()
            if other and other != room(module) and RANK[other] >= RANK[room(module)]
        ]
    assert wrong == []


def circle(imports: dict[str, set[str]]) -> list[str]:
    """The modules of a circle of imports; empty where there is none."""
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module not in done:
            for imported in sorted(imports[module]):
                if found := visit(imported, [*way, module]):
                    return found
            done.add(module)
        return []

    return next((found for module in imports if (found := visit(module, []))), [])


def test_no_module_imports_itself_by_way_of_others():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({module: imports_of(module) for module in MODULES}) == []


def test_no_file_has_more_than_300_lines():
    paths = [path for folder in ("gee_core", "pipelines", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    assert not [relative(path) for path in paths if len(path.read_text(encoding="utf-8").splitlines()) > 300]


def test_a_file_of_tests_has_the_path_of_its_module():
    """A module's tests may be several files: `test_lif.py`, `test_lif_on_gpus.py`."""
    homeless = set()
    for folder in ("gee_core", "pipelines", "benchmarks"):
        for path in (ROOT / "tests" / folder).rglob("test_*.py"):
            place, words = ROOT / path.parent.relative_to(ROOT / "tests"), path.stem.split("_")[1:]
            names = ["_".join(words[:n]) for n in range(1, len(words) + 1)]
            if not any((place / f"{name}.py").is_file() or (place / name / "__init__.py").is_file() for name in names):
                homeless.add(path.relative_to(ROOT / "tests").as_posix())
    assert homeless <= CROSS_CUTTING, homeless - CROSS_CUTTING


def test_the_name_of_a_test_has_at_most_80_characters():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("test_*.py")]
    names = [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert [name for name in names if name.startswith("test_") and len(name) > 80] == []


def test_one_place_owns_each_outside_system():
    for package, owners in OWNER.items():
        importers = {relative(path) for path in ALL if any(m.split(".")[0] == package for m in imported_modules(path))}
        assert {owner for owner in owners if any(path.startswith(owner) for path in importers)} == set(owners)
        assert all(path.startswith(owners) for path in importers), f"{package} is imported by {importers}"


@pytest.mark.slow
def test_the_core_can_be_imported_where_there_is_no_posix_and_loads_no_orchestration():
    """On Windows these modules are missing: packages may try to import them, but no module of the core may need one."""
    code = (
        "import importlib, sys\n"
        "missing = ['fcntl', 'resource', 'pwd', 'grp', 'termios']\n"
        "sys.modules.update(dict.fromkeys(missing))\n"  # None makes the import fail as if there were no such module
        f"for name in {[module_of(path) for path in CORE]}: importlib.import_module(name)\n"
        f"print(sorted({FORBIDDEN_IN_CORE} & set(sys.modules)))"
    )
    assert run(ROOT, sys.executable, "-c", code) == "[]\n"


def texts(tree: ast.Module) -> list[str]:
    """The texts in a module's code, without its docstrings."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs]
    return [text for text in found if isinstance(text, str)]


def test_the_core_names_no_command_and_no_key_of_params_yaml():
    """It names its own arguments, and callers their section. Sections check each other by key; `data` reads `prepare`."""
    sections = {name: field.annotation.model_fields for name, field in Params.model_fields.items()}
    keys = "|".join(rf"{section}\.{key}" for section, fields in sections.items() for key in fields)
    named = re.compile(rf"`(?:gee|dvc) |(?<![\w.])(?:{keys})\b(?!\()")
    found = {}  # a key alone is the purpose of a draw, for its seed
    for path in CORE:
        if not {"config", "data"} & {*path.parts}:
            said = texts(ast.parse(path.read_text(encoding="utf-8")))
            found[relative(path)] = [text for text in said if named.search(text) and not named.fullmatch(text)]
    assert {path: texts for path, texts in found.items() if texts} == {}


# Left never imports right; entries of one rank do not import each other.
PIPELINE_ORDER = (
    ("interruption",),
    ("__init__",),  # of the package itself
    ("project",),
    ("runtime",),
    ("inputs", "figures"),
    ("tracking", "engines"),
    ("reporting",),
    ("stage",),
    ("measuring",),
    ("check", "prepare", "evolve", "train", "evaluate", "robustness", "export", "report"),
    ("plain",),
    ("studies",),
    ("orchestration",),
    ("commands",),
    ("cli",),
)
PIPELINE_RANK = {name: rank for rank, names in enumerate(PIPELINE_ORDER) for name in names}


def test_inside_pipelines_left_never_imports_right():
    wrong = []
    for path in (ROOT / "pipelines").rglob("*.py"):
        own = path.relative_to(ROOT / "pipelines").parts[0].removesuffix(".py")
        for module in imported_modules(path):
            parts = module.split(".")
            if parts[0] == "pipelines" and len(parts) > 1 and parts[1] not in (own, "__init__"):
                wrong += [f"{relative(path)} imports {module}"] if PIPELINE_RANK[parts[1]] >= PIPELINE_RANK[own] else []
    assert wrong == []

"""What is installed: the wheel of gee-snn holds the library alone, and nothing we write installs somebody else's package."""

import itertools
import re
import shutil
import sys
import tomllib
import zipfile
from importlib.metadata import Distribution, PathDistribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.project_copy import ROOT, run
from tests.test_architecture import imported_modules

HARDWARE = {"torch", "torchvision"}
"""Their builds depend on the hardware, so no version of them is fixed anywhere."""


def read_project(path: str) -> dict:
    return tomllib.loads((ROOT / path).read_text())["project"]


PROJECTS = [read_project("pyproject.toml"), read_project("pipelines/pyproject.toml")]


def requirements(project: dict) -> list[Requirement]:
    """Of a [project] table, those of its extras too."""
    extras = itertools.chain(*project["optional-dependencies"].values())
    return [Requirement(text) for text in [*project["dependencies"], *extras]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The folder that the wheel unpacks to, built from a copy of the code: a build writes beside its sources."""
    source, out, unpacked = (tmp_path_factory.mktemp(name) for name in ("source", "out", "unpacked"))
    for name in ("gee_core", "pipelines", "benchmarks", "studies"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "Makefile"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source]
    run(source, *map(str, command))
    (path,) = out.glob("gee_snn-*-py3-none-any.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(unpacked)
    return unpacked


@pytest.fixture(scope="module")
def installed(wheel) -> Distribution:
    (info,) = wheel.glob("*.dist-info")
    return PathDistribution(info)


def test_the_wheel_holds_the_library_and_its_licence_and_nothing_else(wheel):
    def files(folder: Path) -> set[str]:
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    modules = {f"gee_core/{name}" for name in files(ROOT / "gee_core") if name.endswith(".py")}
    (info,) = (path.name for path in wheel.glob("*.dist-info"))
    described = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "top_level.txt", "licenses/LICENSE")}
    networks = {f"gee_core/{name}" for name in files(ROOT / "gee_core") if name.endswith((".safetensors", ".onnx"))}
    assert files(wheel) == modules | networks | {"gee_core/py.typed"} | described
    assert (wheel / info / "licenses/LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_the_wheel_brings_no_command_and_needs_the_core_s_packages_only(installed):
    assert (installed.metadata["Name"], installed.metadata["License-Expression"]) == ("gee-snn", "MIT")
    needed: dict[str, set[str]] = {"": set(), "digits": set(), "evolve": set(), "nir": set(), "onnx": set()}
    for requirement in map(Requirement, installed.requires):
        extras = [extra for extra in needed if requirement.marker is None or requirement.marker.evaluate({"extra": extra})]
        needed[extras[0]].add(requirement.name)
    assert needed == {
        "": {*HARDWARE, "spikingjelly", "numpy", "pillow", "pydantic", "pydantic-settings", "safetensors"},
        "digits": {"scikit-learn"},
        "evolve": {"cma"},
        "nir": {"nir", "nirtorch"},
        "onnx": {"onnx", "onnxscript", "torch"},
    }
    assert installed.metadata.get_all("Provides-Extra") == ["digits", "evolve", "nir", "onnx"] and not installed.entry_points


def test_version_is_the_same_in_wheel_module_citation_and_changelog(installed):
    for path, pattern in {
        "gee_core/__init__.py": r'^__version__ = "(.+)"$',
        "CITATION.cff": r"^version: (.+)$",
        "CHANGELOG.md": r"^## \[(.+?)\]",
    }.items():
        assert re.search(pattern, (ROOT / path).read_text(), re.M)[1] == installed.version


ALONE = """
import sys
for name in ("pipelines", "mlflow", "prefect", "dvc", "pandas", "ruamel", "typer", "distributed", "cma", "onnx", "onnxscript"):
    sys.modules[name] = None  # importing it fails, as where it is not installed
"""


@pytest.mark.slow
def test_the_wheel_alone_runs_the_code_of_the_readme(wheel, tmp_path):
    code, *_ = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    program = tmp_path / "readme.py"
    program.write_text(f"{ALONE}sys.path.insert(0, {str(wheel)!r})\n{code}\nprint(gee_core.__file__)")
    assert run(tmp_path, sys.executable, str(program)).splitlines()[-1] == str(wheel / "gee_core/__init__.py")


def test_both_packages_of_a_clone_are_found_from_any_folder(tmp_path):
    code = "import gee_core, pipelines; print(*gee_core.__path__, *pipelines.__path__, sep='\\n')"
    found = run(tmp_path, sys.executable, "-P", "-c", code).split()
    assert [Path(line).resolve() for line in found] == [ROOT / "gee_core", ROOT / "pipelines"]


def test_the_pipeline_s_distribution_cannot_be_published():
    library, pipeline = PROJECTS
    assert "Private :: Do Not Upload" in pipeline["classifiers"]
    assert pipeline["scripts"] == {"gee": "pipelines.cli:main"} and "scripts" not in library
    names = {requirement.name for project in PROJECTS for requirement in requirements(project)}
    assert not {name for name in names if name.startswith("gee")}


def test_every_package_that_is_imported_is_declared():
    distributions = packages_distributions()
    for folder, n_projects in (("gee_core", 1), ("pipelines", 2), ("benchmarks", 2)):
        declared = {requirement.name.lower() for requirement in itertools.chain(*map(requirements, PROJECTS[:n_projects]))}
        roots = {module.split(".")[0] for path in (ROOT / folder).rglob("*.py") for module in imported_modules(path)}
        by = {root: distributions[root] for root in roots - {"gee_core", "pipelines"} if root in distributions}
        assert [root for root, packages in by.items() if not declared & {name.lower() for name in packages}] == [], folder


def test_the_lock_holds_a_version_of_every_package_but_torch_s():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    locked = {requirement.name.lower(): requirement for requirement in map(Requirement, lines)}
    assert all(re.fullmatch(r"==[^,+]+", str(requirement.specifier)) for requirement in locked.values())
    assert not [name for name in locked if re.match(r"torch|triton|nvidia|cuda|gee", name)]
    for requirement in itertools.chain(*map(requirements, PROJECTS)):
        if requirement.name not in {*HARDWARE, "setuptools"}:
            (pin,) = locked[requirement.name.lower()].specifier
            assert requirement.specifier.contains(pin.version), requirement


def test_no_install_line_names_a_package_of_ours_that_somebody_else_could_publish():
    """In what a reader copies install lines from: docs, notebooks, and the messages of the code."""
    stranger = re.compile(r"\bpip\s+install\b[^`\n&;#]*[\s\"'](gee(?!-snn)[\w-]*)")
    assert stranger.search('`pip install -c a.txt "gee[dask]"`')
    assert not stranger.search('pip install "gee-snn[onnx]" && gee run')
    patterns = ["*.md", "docs/**/*.md", "notebooks/**/*.ipynb", "gee_core/**/*.py", "pipelines/**/*.py", "Dockerfile"]
    paths = [path for pattern in patterns for path in ROOT.glob(pattern)]
    found = {path.relative_to(ROOT).as_posix(): stranger.findall(path.read_text(encoding="utf-8")) for path in paths}
    assert ROOT / "README.md" in paths
    assert {name: arguments for name, arguments in found.items() if arguments} == {}

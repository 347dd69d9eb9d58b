"""What no line of ours does, as docs/SECURITY.md has it: read pickles, build shells from params, listen to the world."""

import ast
import re

from ruamel.yaml import YAML

from tests.project_copy import ROOT

SOURCES = sorted(path for folder in ("gee_core", "pipelines", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pandas.read_pickle", "torch.load"}
SHELLS = {"os.system", "os.popen", "os.execl", "os.execlp", "pty.spawn", "commands.getoutput", "subprocess.getoutput"}
BY_NAME = {"eval", "exec", "compile", "__import__"}


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of an expression, as far as it is one."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def offences(source: str) -> list[str]:
    """What in ``source`` runs code from a file, or a shell."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in UNPICKLERS]
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names} | {(node.module or "").split(".")[0]}
            found += sorted(names & (UNPICKLERS | SHELLS))
        elif isinstance(node, ast.Call):
            found += _in_call(node)
    return found


def _in_call(node: ast.Call) -> list[str]:
    name, given = dotted(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
    said = {key: value.value for key, value in given.items() if isinstance(value, ast.Constant)}
    found = []
    if name in BY_NAME or name.replace("pd.", "pandas.") in UNPICKLERS | SHELLS:
        found.append(name)
    if name in ("np.load", "numpy.load") and said.get("allow_pickle", False) is not False:
        found.append(name)
    if "allow_pickle" in given and said.get("allow_pickle") is not False:
        found.append(f"{name} with allow_pickle")
    if "shell" in given and said.get("shell") is not False:
        found.append(f"{name} with shell")
    if name.split(".")[-1] in ("extractall", "unpack_archive") or said.get("typ") == "unsafe":
        found.append(name)
    return found


def test_no_source_unpickles_evaluates_or_runs_a_shell():
    found = {path.relative_to(ROOT).as_posix(): offences(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {path: names for path, names in found.items() if names} == {}


def test_dvc_gives_a_shell_nothing_from_params():
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    commands = [stage["cmd"] for stage in stages.values()]
    assert commands
    assert all(re.fullmatch(r"python -m pipelines\.\w+", command) for command in commands)


def test_nothing_of_ours_tells_a_server_to_listen_to_other_machines():
    run_by_us = [*SOURCES, *ROOT.glob("*.toml"), *ROOT.glob("*.yaml"), ROOT / "Makefile", ROOT / "README.md"]
    for path in run_by_us:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not re.search(r"0\.0\.0\.0|--host[ =](?!127\.0\.0\.1|localhost)\S|\[::\]", line), f"{path}: {line}"


def test_pages_escape_all_that_is_not_their_own_svg():
    templates = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "pipelines").rglob("templates/*.html")}
    assert "report.html" in templates
    for template in templates.values():
        assert not re.search(r"\|\s*(safe|tojson|xmlattr)\b|autoescape\s+false|Markup", template)
    marked = [line for path in SOURCES for line in path.read_text(encoding="utf-8").splitlines() if "Markup(" in line]
    assert len(marked) == 1 and "Markup(svg) for key, svg in svgs.items()" in marked[0]


def test_no_workflow_runs_an_action_by_a_name_that_somebody_can_move():
    lines = [line for path in (ROOT / ".github/workflows").glob("*.yml") for line in path.read_text().splitlines()]
    actions = [line.split("uses: ")[1] for line in lines if "uses: " in line]
    assert len(actions) > 10 and [a for a in actions if not re.match(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", a)] == []

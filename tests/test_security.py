"""What no line of ours does, as docs/SECURITY.md has it: read pickles, build shells from params, listen to the world."""

import re

from ruamel.yaml import YAML

from tests.project_copy import ROOT

SOURCES = sorted(path for folder in ("gee_core", "pipelines", "benchmarks") for path in (ROOT / folder).rglob("*.py"))


def test_numpy_reads_no_objects():
    """Unpickling, evaluation and shells are refused by ruff: see pyproject.toml."""
    for path in SOURCES:
        assert not re.search(r"allow_pickle(?!=False)|unpack_archive|typ=.unsafe", path.read_text(encoding="utf-8")), path


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

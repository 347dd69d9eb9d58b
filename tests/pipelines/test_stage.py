"""The frame around a stage, and that dvc.yaml knows what each stage reads."""

import ast
import io
from pathlib import Path

import pytest
from rich.console import Console
from ruamel.yaml import YAML

from gee_core.config import Params
from gee_core.errors import InputError
from pipelines import stage as frame
from pipelines.stage import report_input_errors, stage

ROOT = Path(__file__).resolve().parents[2]
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


class Tracked:
    def close(self, status="FINISHED"):
        self.status = status


@pytest.fixture
def tracked(in_project, monkeypatch):
    in_project()
    tracked = Tracked()
    monkeypatch.setattr(frame, "open_tracker", lambda name, params: tracked)
    return tracked


def test_a_stage_that_ends_well_is_tracked_as_finished(tracked, make_params):
    with stage("train") as s:
        assert s.params == make_params()
        assert s.track is tracked
    assert tracked.status == "FINISHED"


@pytest.mark.parametrize(
    ("error", "raised", "code", "status"),
    [
        (InputError("a file: is missing\nanother: too"), SystemExit, 2, "FAILED"),
        (KeyboardInterrupt(), SystemExit, 130, "KILLED"),
        (SystemExit(143), SystemExit, 143, "KILLED"),
        (ZeroDivisionError("a bug"), ZeroDivisionError, None, "FAILED"),
    ],
    ids=["bad input", "Ctrl-C", "SIGTERM", "bug"],
)
def test_a_stage_that_ends_badly_has_its_exit_code_and_its_status(error, raised, code, status, tracked, capsys):
    with pytest.raises(raised) as caught, stage("train"):
        raise error
    assert getattr(caught.value, "code", None) == code
    assert tracked.status == status
    message = capsys.readouterr().err
    if code == 2:
        assert message == "train: error: a file: is missing\ntrain: error: another: too\n"
    if code == 130:
        assert message == "train: interrupted; `dvc repro` continues where it stopped\n"


def test_bad_params_are_refused_before_anything_is_tracked(in_project, monkeypatch, capsys):
    folder = in_project()
    (folder / "params.yaml").write_text("base: {}\n")
    monkeypatch.setattr(frame, "open_tracker", lambda *_: pytest.fail("a run was opened"))
    with pytest.raises(SystemExit) as caught, stage("train"):
        pytest.fail("the stage ran")
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("train: error: params.yaml: ")


def test_nothing_is_caught_that_is_neither_bad_input_nor_an_interruption():
    with pytest.raises(ValueError, match="a bug"), report_input_errors("gee"):
        raise ValueError("a bug")


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_a_terminal_alone(terminal, tracked, monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(frame, "console", Console(file=text, force_terminal=terminal, width=120))
    with stage("train") as s, s.progress("train", 3) as advance:
        advance()
        advance(2, note="loss 0.5")
    assert ("3/3" in text.getvalue() and "loss 0.5" in text.getvalue()) == terminal
    assert terminal or not text.getvalue()


def sources(name: str) -> list[Path]:
    """The stage's module and the modules of pipelines that it takes functions from."""
    module = ROOT / "pipelines" / f"{name}.py"
    found, new = {module}, [module]
    while new:
        for node in ast.walk(ast.parse(new.pop().read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("pipelines."):
                path = ROOT / f"{node.module.replace('.', '/')}.py"
                if path not in found and path.stem not in FRAME and path.parent.name not in FRAME:
                    found.add(path)
                    new.append(path)
    return sorted(found)


FRAME = {"stage", "params", "paths", "tracker", "scratch", "processes", "figures", "pipeline_run", "engines"}
"""Around a stage's work: they change no number that it writes. Figures go to the tracker, but for report's."""


def functions(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def reads(name: str) -> set[str]:
    """The sections of params.yaml that ``main`` of a stage, or a function of pipelines that it calls, reads."""
    known = {path.stem: functions(ast.parse(path.read_text(encoding="utf-8"))) for path in sources(name)}
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


# export names the registered model after the data set, in MLflow alone; check looks at every section, report shows them.
ONLY_TRACKED = {"export": {"prepare"}}


@pytest.mark.parametrize("name", sorted(set(STAGES) - {"check", "report"}))
def test_dvc_reruns_a_stage_for_exactly_the_sections_that_it_reads(name):
    through_the_core = {"network"} if name in {"evolve", "train", "evaluate", "robustness", "export"} else set()
    assert set(STAGES[name]["params"]) == (reads(name) | through_the_core) - ONLY_TRACKED.get(name, set())


@pytest.mark.parametrize("name", STAGES)
def test_dvc_reruns_a_stage_when_the_code_it_takes_its_numbers_from_changes(name):
    needed = {path.relative_to(ROOT).as_posix() for path in sources(name)}
    assert needed <= set(STAGES[name]["deps"])

"""`gee compare`: runs from folders, git revisions and DVC experiments, their page, and what is refused."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import pandas as pd
import pytest
from typer.testing import CliRunner

from gee_core.errors import InputError
from gee_core.genome.genotype import analytic_genotype
from pipelines import cli
from pipelines.commands.compare.page import genes, render, results
from pipelines.commands.compare.runs import differing, find_runs, flat
from pipelines.report import as_yaml
from pipelines.reporting.summary import build_summary, read_measured
from tests.pipelines.figures.svg_checks import assert_references_are_found_and_no_id_is_shared
from tests.pipelines.report_inputs import PARAMS, PLAIN, SHAPE, Page, changed, write_inputs

WIDER = changed(network={"n_genes": 40})


def write_run(folder, params=PARAMS, plain=False, **summary):
    """A folder with the files of a run that a comparison reads."""
    write_inputs(folder, params=params, plain=plain)
    values = build_summary(params, read_measured(folder / "reports"), "abc1234") | summary
    (folder / "reports/summary.json").write_text(json.dumps(values))
    (folder / "params.yaml").write_text(as_yaml(params))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of four runs."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "a", test_accuracy=0.9)
    write_run(root / "wider", WIDER, parameters=400_000)
    write_run(root / "plain", PLAIN, plain=True, energy_with_decoding_mj=0.0038)
    write_run(root / "<b>shape", SHAPE)
    return root


@pytest.fixture
def no_figures(monkeypatch):
    """Pages with empty figures, for tests of the text."""
    names = ("trade_offs", "training", "noise", "layers", "wiring")
    monkeypatch.setattr("pipelines.commands.compare.page.draw", lambda _: dict.fromkeys(names, "<svg></svg>"))


def find(root, *names):
    return find_runs(names, root, root)


def git(folder, *arguments):
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def project(folders, tmp_path_factory):
    """A project with a run in each of two commits, an experiment, and changes that are not committed."""
    root = tmp_path_factory.mktemp("git") / "project"
    git(root.parent, "init", "-q", ".")
    shutil.copytree(folders / "a", root)
    for message in ("first", "second"):
        (root.parent / ".git/index").unlink(missing_ok=True)  # git would take files of one size and second for unchanged
        git(root, "add", ".")
        git(root, "commit", "-qm", message)
        shutil.copytree(folders / "wider", root, dirs_exist_ok=True)
    head = git(root, "rev-parse", "HEAD")
    git(root, "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/busy-bee", "HEAD~1")
    for commit in ("HEAD", "HEAD~1"):
        base = git(root, "rev-parse", commit)
        git(root, "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/twice", commit)
    shutil.copytree(folders / "plain", root, dirs_exist_ok=True)
    git(
        root,
        "tag",
        "empty",
        git(root, "commit-tree", "-m", "no run", git(root, "hash-object", "-t", "tree", "-w", "/dev/null")),
    )
    return root


def test_folders_revisions_experiments_and_the_workspace_are_found(project, folders):
    names = ["workspace", "HEAD", "HEAD~1", "busy-bee", "plain"]
    found = find_runs(names, project, folders)
    head, first = (git(project, "rev-parse", commit)[:7] for commit in ("HEAD", "HEAD~1"))
    assert [(run.name, run.commit, run.summary.n_genes) for run in found] == list(
        zip(names, [None, head, first, first, None], [None, 40, 24, 24, None], strict=True)
    )
    committed, folder = find_runs(["HEAD", "wider"], project, folders)
    assert committed.params == folder.params and committed.params["network.n_genes"] == 40
    for name, table in committed.tables.items():
        pd.testing.assert_frame_equal(table, folder.tables[name])


def test_the_best_numbers_are_marked(folders):
    shown = results(find(folders, "a", "wider", "plain"))
    marked = [[text.replace("\N{NO-BREAK SPACE}", " ") for text, best in row if best] for row in shown]
    assert marked == [["312,340"], ["97.31 %"], ["97.31 %", "312,340", "3.8 µJ"]]


@pytest.mark.parametrize(
    ("other", "notes", "marked"),
    [
        ({"dataset": "cifar10"}, 1, [False, False, True]),
        ({"noise_domain": "normalised"}, 1, [True, False, True]),
        ({}, 0, [True, True, True]),
    ],
)
def test_what_cannot_be_compared_is_not_marked_and_said(tmp_path, no_figures, other, notes, marked):
    write_run(tmp_path / "a", test_accuracy=0.9, noise_accuracy=0.8)
    write_run(tmp_path / "b", **{"test_accuracy": 0.95, "noise_accuracy": 0.85, "parameters": 1000} | other)
    runs = find(tmp_path, "a", "b")
    assert [best for _, best in results(runs)[1]][:3] == marked
    assert len(re.findall('class="note"', render(runs))) == notes


def test_params_have_the_keys_that_dvc_gives_them_as_far_as_their_section():
    flattened = flat({"evolve": {"rescore": {"top": 2, "draws": 3}, "a": True}, "title": "x"})
    assert flattened == {"evolve.rescore": {"top": 2, "draws": 3}, "evolve.a": True, "title": "x"}


def test_params_are_compared_by_key(folders):
    runs = find(folders, "a", "wider", "<b>shape")
    assert differing(runs) == {
        "network.n_genes": ["24", "40", "24"],
        "evolve.genotype": ["per_layer", "per_layer", "shape"],
        "evolve.rescore": ["null", "null", "top: 2, draws: 3"],
    }
    assert differing(runs[:1] * 2) == {}
    unknown = replace(runs[0], params={})
    assert differing([runs[0], unknown]) == {} and differing([*runs[:2], unknown]) == {"network.n_genes": ["24", "40", "–"]}


LOCKED = """
schema: '2.0'
stages:
  check: {cmd: c, params: {params.yaml: {network: {n_genes: 7}, train: {epochs: 3}}}}
  train: {cmd: c, params: {params.yaml: {train: {epochs: 30}}}}
  report: {cmd: c}
"""


@pytest.mark.parametrize(("lock", "found"), [(LOCKED, [7, 30]), (LOCKED[:40], [24, 2]), ("stages: 3", [24, 2])])
def test_params_are_those_that_the_stages_ran_with(lock, found, tmp_path):
    write_run(tmp_path / "a", changed(train={"epochs": 2}))
    (tmp_path / "a/dvc.lock").write_text(lock)
    write_run(tmp_path / "b")
    run, _ = find(tmp_path, "a", "b")
    assert [run.params[key] for key in ("network.n_genes", "train.epochs")] == found


def test_sigmas_stand_beside_the_analytic_ones(folders):
    run = find(folders, "a", "wider")[0]
    sigmas, rows = run.sigmas(), run.tables["candidates"]
    won = rows[rows["winner"]].iloc[0]
    analytic = analytic_genotype([32] * 7 + [64] * 6 + [128] * 4, 24)
    assert list(sigmas["encoding"]) == ["O", *(f"X{i}" for i in range(17))]
    assert sigmas["factor"][0] == pytest.approx(won["sigma_O"] / analytic.sigma_O)
    assert sigmas["factor"][17] == pytest.approx(won["sigma_16"] / analytic.sigma_X[16])


def test_an_own_network_is_compared_without_its_code(folders, tmp_path):
    for name in ("own", "other"):
        shutil.copytree(folders / "a", tmp_path / name)
        edited("reports/summary.json", '"resnet19"', f'"networks.not_here:{name.title()}"')(tmp_path / name)
    runs = find_runs(["own", "other"], tmp_path, tmp_path)
    known = find(folders, "a", "wider")[0].sigmas()
    assert runs[0].sigmas()[["encoding", "sigma"]].equals(known[["encoding", "sigma"]])
    assert runs[0].sigmas()["factor"].isna().all()
    text = Page(render(runs)).text
    assert "networks.not_here:Own × 0.25" in text and "The wiring against" not in text


def test_genes_of_shape_are_told_where_one_run_has_them(folders):
    with_shape, without = genes(find(folders, "a", "<b>shape")), genes(find(folders, "a", "plain"))
    assert list(without) == ["σ_O", "σ_X, geometric mean"] and without["σ_O"][1] == "–"
    assert {"ω_O", "γ_end", "slope"} <= set(with_shape) and with_shape["ω_O"][0] == "0"


def test_the_page_shows_every_run_and_loads_nothing(folders):
    html = render(find(folders, "a", "wider", "plain", "<b>shape"))
    page = Page(html)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "b", "a"})
    assert not re.search(r"https?://(?!www\.w3\.org)|@import|url\((?!#)", html)
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    assert_references_are_found_and_no_id_is_shared(re.findall("<svg.*?</svg>", html, re.DOTALL))
    for text in ("4 runs compared", "<b>shape", "network.n_genes 24 40 null 24", "resnet19 × 0.25, 24 genes, ste, seed 0"):
        assert text in page.text
    for title in (
        "Accuracy over size",
        "Training loss",
        "Accuracy under noise",
        "Building W",
        "The wiring against the analytic one",
    ):
        assert title in page.text


def test_plain_networks_alone_have_no_wiring(folders, tmp_path, no_figures):
    shutil.copytree(folders / "plain", tmp_path / "again")
    assert "Wiring" not in render(find_runs(["plain", str(tmp_path / "again")], folders, folders))


def test_the_command_writes_the_page_and_prints_the_numbers(folders, tmp_path, monkeypatch, no_figures):
    (tmp_path / "here").symlink_to(folders)
    monkeypatch.chdir(tmp_path)
    command = ["compare", "a", "plain", "--out", "page.html"]
    result = CliRunner().invoke(cli.app, command, obj=tmp_path / "here", catch_exceptions=False)
    assert result.exit_code == 0
    text = result.stdout.replace("\N{NO-BREAK SPACE}", " ")
    assert "90.00 %" in text and "network.n_genes 24 → null" in text and "page.html" in text
    assert "2 runs compared" in (tmp_path / "here/page.html").read_text()


def spoilt(path, content):
    def spoil(folder):
        (folder / path).write_text(content) if content is not None else (folder / path).unlink()

    return spoil


def edited(path, old, new):
    return lambda folder: (folder / path).write_text((folder / path).read_text().replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoilt("reports/summary.json", None), "bad: reports/summary.json: not found"),
        (spoilt("reports/summary.json", "{"), "bad: reports/summary.json: cannot be read as a summary"),
        (edited("reports/summary.json", ": 0.9,", ': "high",'), "test_accuracy: Input should be a valid number"),
        (edited("reports/summary.json", '"resnet19"', '"resnet20"'), "does not fit the network resnet20"),
        (edited("reports/summary.json", '"resnet19"', '"resnet34"'), "does not fit the network resnet34"),
        (spoilt("reports/robustness/noise.csv", "r,seed\n0,0\n"), "noise.csv: cannot be read as CSV (it lacks accuracy)"),
        (spoilt("reports/robustness/noise.csv", "r,seed,accuracy\n0,0,x\n"), "(accuracy: not numbers)"),
        (spoilt("reports/evolve/candidates.csv", ""), "bad: reports/evolve/candidates.csv: cannot be read as CSV"),
        (spoilt("params.yaml", "a: ["), "bad: params.yaml: not valid YAML"),
    ],
)
def test_damaged_results_are_refused_with_one_message(folders, tmp_path, no_figures, spoil, says):
    shutil.copytree(folders / "a", tmp_path / "bad")
    spoil(tmp_path / "bad")
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        render(find_runs(["bad", str(folders / "plain")], tmp_path, tmp_path))
    assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value) and caught.value.remedy


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["HEAD"], "HEAD: a comparison needs two runs or more: name folders"),
        (["HEAD", "HEAD"], "HEAD: a comparison needs two runs or more"),
        (["HEAD", "nowhere"], "nowhere: no such run: name folders that hold a reports/"),
        (["HEAD", "--all"], "--all: no such run"),
        (["HEAD", "twice"], "twice: 2 experiments have this name: name a commit: "),
        (["HEAD", "empty"], "empty: reports/summary.json: not found: name a revision that has a run's results in git"),
    ],
)
def test_runs_that_are_not_there_are_refused_with_one_message(project, tmp_path, names, says):
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        find_runs(names, project, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_git_that_does_not_work_is_no_missing_run(folders, tmp_path):
    shutil.copytree(folders / "a", tmp_path, dirs_exist_ok=True)
    git(tmp_path, "init", "-q", ".")
    (tmp_path / ".git/config").write_text("[")
    with pytest.raises(InputError, match="git: bad config"):
        find_runs(["workspace", "HEAD"], tmp_path, tmp_path)

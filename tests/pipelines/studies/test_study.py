"""Whole studies of tiny cells, in this process."""

import json
import shutil

import pandas as pd
import pytest
from matplotlib.axes import Axes

from gee_core.errors import DivergedError
from pipelines import evolve, train
from pipelines.project.paths import STUDY_STEPS
from pipelines.runtime.file_lock import file_lock
from pipelines.runtime.resume_folder import HELD
from pipelines.studies import study
from pipelines.studies.cell import Request
from pipelines.studies.study import OUT, run_study
from pipelines.studies.watch import Watch

REPORTS = ["cells.csv", "table.csv", "table.md", "study.json", "1-bars.svg"]

PLAIN = {"encoding": [{"label": "unencoded", "control": "plain"}]}


class Ran(Watch):
    """Remembers which cells ran."""

    def __init__(self):
        self.cells, self.missing = [], None

    def planned(self, cells, missing, jobs):
        self.missing = len(missing)

    def done(self, cell, result):
        self.cells.append(cell.name)


class KilledAfterFirst(Ran):
    def done(self, cell, result):
        super().done(cell, result)
        raise KeyboardInterrupt


def reports(names=REPORTS):
    return {name: (OUT / "tiny" / name).read_bytes() for name in names}


@pytest.fixture
def run(write_study):
    def go(watch=None, seeds=None, force=False, **changes):
        write_study(**changes)
        return run_study(Request("tiny", seeds=seeds), jobs=1, force=force, watch=watch)

    return go


def test_a_study_ends_in_means_over_its_seeds_beside_the_published_numbers(run):
    [table] = run()
    assert [(row[0], row[-2], row[-1]) for row in table.rows] == [
        ("genetic", "2", "ours"),
        ("unencoded", "2", "ours"),
        ("genetic", "", "published: Table 2"),
    ]
    cells = pd.read_csv(OUT / "tiny/cells.csv")
    written = pd.read_csv(OUT / "tiny/table.csv").iloc[0]
    measured = cells[cells["encoding"] == "genetic"]["test_accuracy"]
    assert written["test_accuracy"] == pytest.approx(measured.mean())
    assert written["test_accuracy_sd"] == pytest.approx(measured.std(ddof=1), nan_ok=True)
    assert cells[cells["encoding"] == "unencoded"]["parameter_ratio"].eq(1).all()
    about = json.loads((OUT / "tiny/study.json").read_text())
    assert about["images"] == {"train": 64, "holdout": 16, "test": 24}
    assert about["command"] == "gee study run tiny"
    assert (about["cells"], about["seeds"], about["failed"]) == (4, [0, 1], [])


def test_a_scatter_plot_has_a_mark_of_every_group_whatever_else_its_cells_measured(run, monkeypatch):
    drawn, errorbar = {}, Axes.errorbar

    def record(ax, x, y, *arguments, **look):
        drawn[look["label"]] = len(x)
        return errorbar(ax, x, y, *arguments, **look)

    monkeypatch.setattr(Axes, "errorbar", record)
    run(plots=[{"kind": "scatter", "x": "parameters", "group": ["encoding"]}])
    assert "best_proxy_accuracy" in pd.read_csv(OUT / "tiny/cells.csv")  # which the unencoded network does not have
    assert drawn == {"genetic": 1, "unencoded": 1}


def test_a_study_that_was_killed_runs_only_what_is_missing_and_ends_in_the_same_bytes(run, project):
    run()
    whole = reports()
    shutil.rmtree(OUT)
    shutil.rmtree(STUDY_STEPS)
    with pytest.raises(KeyboardInterrupt):
        run(first := KilledAfterFirst())
    run(rest := Ran())
    assert len(first.cells) == 1
    assert len(rest.cells) == rest.missing == 3
    assert not set(first.cells) & set(rest.cells)
    assert reports() == whole


def test_a_finished_study_runs_nothing_and_a_further_seed_only_its_own_cells(run):
    run(seeds=1)
    run(again := Ran(), seeds=1)
    run(more := Ran(), seeds=2)
    assert again.cells == []
    assert more.cells == ["encoding = genetic, seed 1", "encoding = unencoded, seed 1"]


@pytest.mark.parametrize(
    ("changes", "n_trained"),
    [
        ({}, 2),
        ({"grid": {"train.lr": [0.002, 0.004]}}, 2),  # of one evolution
        ({"grid": {"start": [{"label": "encoded", "encoded": {"train.epochs": 2}}]}}, 2),
        ({"grid": PLAIN, "analysis": {"kind": "kendall", "candidates": 3, "times_proxy_epochs": [1], "trainings": 2}}, 7),
    ],
)
def test_force_does_all_the_work_again_and_ends_in_the_same_bytes(run, monkeypatch, changes, n_trained):
    changes |= {"seeds": 1, "plots": [], "published": []}
    run(**changes)
    names = [name for name in REPORTS if not name.endswith(".svg")]
    before, trained, run_train = reports(names), [], train.run
    monkeypatch.setattr(train, "run", lambda params, *rest: trained.append(params) or run_train(params, *rest))
    run(again := Ran(), force=True, **changes)
    assert (len(again.cells), len(trained)) == (again.missing, n_trained)
    assert reports(names) == before


def test_two_runs_of_a_study_write_its_reports_one_after_the_other(run, monkeypatch):
    free, write = [], study.write_reports

    def write_reports(*arguments):
        with file_lock(STUDY_STEPS / "reports/tiny" / HELD, wait=False) as is_free:
            free.append(is_free)
        return write(*arguments)

    monkeypatch.setattr(study, "write_reports", write_reports)
    run(seeds=1, grid=PLAIN, published=[])
    assert free == [False]


def test_cells_with_the_same_evolution_and_training_share_them(run, monkeypatch):
    evolved, trained = [], []
    for calls, stage in ((evolved, evolve), (trained, train)):
        monkeypatch.setattr(
            stage, "run", lambda params, *rest, run=stage.run, calls=calls: calls.append(params) or run(params, *rest)
        )
    domains = {"robustness.domain": ["normalised", "image"]}
    run(seeds=1, grid=domains, stages=["evaluate", "robustness"], metrics=["noise_accuracy"], plots=[], published=[])
    cells = pd.read_csv(OUT / "tiny/cells.csv")
    assert (len(evolved), len(trained), len(cells)) == (1, 1, 2)
    assert cells["noise_accuracy"].notna().all()


def test_a_plain_network_is_not_evolved(run, monkeypatch):
    monkeypatch.setattr(evolve.loop, "evolve", lambda *arguments: pytest.fail("evolved"))
    run(seeds=1, grid=PLAIN, published=[])


def test_a_training_that_diverges_fails_its_cell_and_not_the_study(run, monkeypatch):
    run_train = train.run

    def diverges_when_genetic(params, *rest):
        if params.network.n_genes is not None:
            raise DivergedError("train: the training loss is nan")
        return run_train(params, *rest)

    monkeypatch.setattr(train, "run", diverges_when_genetic)
    [table] = run()
    failed = table.headers.index("failed")
    assert [row[failed] for row in table.rows] == ["2", "0", ""]
    about = json.loads((OUT / "tiny/study.json").read_text())
    assert about["failed"][0] == "encoding = genetic, seed 0: failed: train: the training loss is nan"
    run(again := Ran())
    assert again.cells == []


def test_noise_and_layers_are_written_by_cell(run):
    plots = [{"kind": kind, "group": ["encoding"]} for kind in ("noise", "layers")]
    run(seeds=1, stages=["evaluate", "robustness"], plots=plots)
    noise, layers = pd.read_csv(OUT / "tiny/noise.csv"), pd.read_csv(OUT / "tiny/layers.csv")
    assert noise.groupby("encoding").size().to_dict() == {"genetic": 4, "unencoded": 4}  # two strengths, two draws
    assert (layers[layers["encoding"] == "genetic"]["decode_macs"] > 0).sum() == 7  # all but the stem and the head
    assert {path.name for path in (OUT / "tiny").glob("*.svg")} == {"1-noise.svg", "2-layers.svg"}


def test_defects_of_hardware_are_compared_in_a_table_of_their_own(run):
    hardware = {"n_draws": 2, "max_images": 10, "weights": [0.0, 1.0], "genes": [0.5]}
    _, table = run(
        seeds=2,
        set={"robustness.hardware": hardware},
        stages=["evaluate", "robustness"],
        plots=[{"kind": "hardware", "group": ["encoding"]}],
    )
    assert table.headers == ["defect", "strength", "of it", "genetic", "unencoded", "source"]
    assert [(row[0], row[1]) for row in table.rows] == [
        ("Noise on weights", "0"),
        ("Noise on weights", "1"),
        ("Noise on genes", "0.5"),
    ]
    assert table.rows[2][4] == ""  # an unencoded network has no genes
    rows = pd.read_csv(OUT / "tiny/hardware.csv")
    assert rows.groupby(["encoding", "domain"]).size().to_dict() == {
        ("genetic", "genes"): 4,
        ("genetic", "weights"): 8,
        ("unencoded", "weights"): 8,
    }
    means = rows[(rows["domain"] == "weights") & (rows["strength"] == 1)].groupby("encoding")["accuracy"].mean()
    for column, encoding in ((3, "genetic"), (4, "unencoded")):
        assert float(table.rows[1][column].split(" ±")[0]) == pytest.approx(100 * means[encoding], abs=0.01)
    assert "## Test accuracy (%) under the defects of hardware" in (OUT / "tiny/table.md").read_text()
    assert (OUT / "tiny/1-hardware.svg").is_file()


def test_kendalls_tau_is_taken_over_candidates_that_were_each_trained_in_full(run):
    _, table = run(
        seeds=1,
        grid=PLAIN,
        published=[],
        analysis={"kind": "kendall", "candidates": 3, "times_proxy_epochs": [1, 2]},
    )
    assert table.headers[:2] == ["E", "fitness"]
    assert {row[1] for row in table.rows} >= {"baseline", "baseline+R_T", "baseline+R_S", "ste"}
    cells = pd.read_csv(OUT / "tiny/cells.csv")
    cells = cells[cells["part"] == "kendall"]
    one, two = (cells[cells["E"] == E].set_index("candidate") for E in (1, 2))
    assert len(one) == len(two) == 3
    assert (one["test_loss"] == two["test_loss"]).all()  # the same wirings, trained in full
    assert (one["L_ce"] != two["L_ce"]).all()  # scored after one and after two epochs
    assert one["test_loss"].nunique() == 3


def test_how_far_two_trainings_agree_is_a_table_of_its_own_and_part_of_a_study_has_its_own_tables(run, write_study):
    analysis = {"kind": "kendall", "candidates": 4, "times_proxy_epochs": [1], "sample": "range", "trainings": 2, "seeds": 1}
    write_study(analysis=analysis)
    ranked, repeated = run_study(Request("tiny", seeds=1, only={"part": {"kendall"}}), jobs=1)
    assert ranked.headers[:2] == ["E", "fitness"]
    assert repeated.headers[0] == "trainings" and repeated.rows[0][0] == "2"
    cells = pd.read_csv(OUT / "tiny/cells.csv")
    first, second = (cells[cells["training"] == training]["test_accuracy"].to_numpy() for training in (1, 2))
    written = pd.read_csv(OUT / "tiny/reliability.csv").iloc[0]
    assert written["accuracy_sd"] == pytest.approx(((first + second) / 2).std(ddof=1))
    assert not (OUT / "tiny/table.csv").exists()
    assert [table.title for table in run_study(Request("tiny", seeds=1, only={"part": {"grid"}}), jobs=1)] == ["A tiny study"]
    assert not (OUT / "tiny/reliability.csv").exists()


@pytest.mark.parametrize("trainings", [1, 2])
def test_a_study_of_which_every_training_diverges_ends_in_tables_without_numbers(run, monkeypatch, trainings):
    def diverges(*_):
        raise DivergedError("train: the training loss is nan")

    monkeypatch.setattr(train, "run", diverges)
    analysis = {"kind": "kendall", "candidates": 3, "times_proxy_epochs": [1], "trainings": trainings}
    grid, ranked = run(seeds=1, grid=PLAIN, published=[], analysis=analysis)
    failed = [row[table.headers.index("failed")] for table in (grid, ranked) for row in table.rows]
    assert set(failed) == {"1"}
    assert len(json.loads((OUT / "tiny/study.json").read_text())["failed"]) == 1 + 3 * trainings
    assert not list((OUT / "tiny").glob("*.svg"))


@pytest.mark.slow
def test_cells_side_by_side_give_the_same_bytes(run, monkeypatch):
    monkeypatch.setenv("GEE_COMPILE", "0")
    run()
    one = reports()
    study.run_study(Request("tiny"), jobs=2, force=True)
    assert reports() == one

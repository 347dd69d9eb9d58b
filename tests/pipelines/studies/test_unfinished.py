"""What a study ends with if some of its cells, or all, raise."""

import json

import pandas as pd
import pytest

from pipelines import train
from pipelines.studies.cell import Request
from pipelines.studies.runner import CellsError
from pipelines.studies.study import OUT, run_study
from pipelines.studies.watch import Watch

PLAIN: dict = {"seeds": 1, "grid": {"encoding": [{"label": "unencoded", "control": "plain"}]}, "published": []}


class Told(Watch):
    """Remembers how many cells ran and which tables are of a part of them."""

    def __init__(self):
        self.missing, self.written_to = None, None

    def planned(self, cells, missing, jobs):
        self.missing = len(missing)

    def written(self, folder):
        self.written_to = folder


@pytest.fixture
def run(write_study):
    return lambda watch=None, **changes: run_study(Request(write_study(**changes)), jobs=1, watch=watch)


def test_cells_that_raise_are_failures_in_the_tables_of_the_others_until_they_have_run(run, monkeypatch):
    analysis = {"kind": "kendall", "candidates": 3, "times_proxy_epochs": [1], "trainings": 2, "seeds": 1}
    whole = {"seeds": 2, "analysis": analysis}
    run_train = train.run

    def raises_for_some(params, *rest):
        if params.train.wiring_seed == "fresh" or (params.network.n_genes is not None and params.base.seed == 1):
            raise ValueError("a bug")
        return run_train(params, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(train, "run", raises_for_some)
        with pytest.raises(CellsError, match=r"encoding = genetic, seed 1 and 6 more: .* raises ValueError: a bug"):
            run(first := Told(), **whole)
    assert first.written_to == OUT / "tiny"
    table = pd.read_csv(OUT / "tiny/table.csv")
    assert [(row.n, row.failed) for row in table[:2].itertuples()] == [(1, 1), (2, 0)]
    shown = (OUT / "tiny/table.md").read_text()
    assert "7 of 10 cells failed: encoding = genetic, seed 1 and 6 more. This command runs them again:" in shown
    failed = json.loads((OUT / "tiny/study.json").read_text())["failed"]
    assert len(failed) == 7 and failed[0].endswith("raises ValueError: a bug: mend it and run the study again")
    assert (OUT / "tiny/1-bars.svg").is_file()
    run(again := Told(), **whole)
    assert (again.missing, again.written_to) == (7, None)
    assert "cells failed" not in (OUT / "tiny/table.md").read_text()
    assert pd.read_csv(OUT / "tiny/table.csv")["failed"][:2].sum() == 0


def test_a_study_of_which_no_cell_has_a_result_leaves_its_earlier_tables(run, monkeypatch):
    run(**PLAIN)
    before = {path: path.read_bytes() for path in (OUT / "tiny").glob("*.*")}
    monkeypatch.setattr(train, "run", lambda *_: 1 / 0)
    with pytest.raises(CellsError, match="ZeroDivisionError"):
        run(**PLAIN, set={"train.epochs": 3})
    assert {path: path.read_bytes() for path in (OUT / "tiny").glob("*.*")} == before

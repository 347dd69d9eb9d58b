"""What the tables and figures of a study leave out: what no cell measured, and the cells that --only left out."""

from pipelines.studies.cell import Request
from pipelines.studies.study import OUT, run_study
from pipelines.studies.watch import Watch


class Named(Watch):
    """Remembers what was left out."""

    def __init__(self):
        self.names = []

    def left_out(self, names):
        self.names += names


def test_a_plot_of_what_no_cell_measured_is_left_out_and_named(write_study):
    named = Named()
    plots = [{"kind": kind, "y": "val_accuracy"} | x for kind, x in (("bars", {}), ("scatter", {"x": "parameters"}))]
    plots += [{"kind": "scatter", "x": "val_accuracy"}, {"kind": "bars"}]
    plots.append({"kind": "hardware"})
    own = {"train.include_holdout": True, "robustness.hardware": None}
    stages, metrics = ["evaluate", "robustness"], ["test_accuracy", "parameter_ratio", "val_accuracy"]
    grid = {"encoding": [{"label": "unencoded", "control": "plain"}]}
    write_study(grid=grid, published=[], set=own, plots=plots, stages=stages, metrics=metrics)
    run_study(Request("tiny", seeds=1), jobs=1, watch=named)
    assert [path.name for path in (OUT / "tiny").glob("*.svg")] == ["4-bars.svg"]
    assert named.names == ["val_accuracy", "hardware"]


def test_a_figure_of_cells_that_were_left_out_is_not_drawn(write_study):
    hardware = {"n_draws": 1, "max_images": 10, "weights": [0.0, 1.0]}
    plots = [{"kind": kind, "where": {"encoding": "genetic"}} for kind in ("hardware", "bars")] + [{"kind": "bars"}]
    write_study(set={"robustness.hardware": hardware}, stages=["evaluate", "robustness"], plots=plots)
    run_study(Request("tiny", seeds=1, only={"encoding": {"unencoded"}}), jobs=1, watch=(named := Named()))
    assert {path.name for path in (OUT / "tiny").glob("*.svg")} == {"3-bars.svg"}
    assert named.names == []


def test_a_column_of_cells_that_were_left_out_is_empty(write_study):
    cells = [{"columns": {"size": "four steps"}, "set": {"network.T": 4}}]
    plots = [{"kind": kind, "group": ["encoding", "size"]} for kind in ("bars", "layers")]
    write_study(cells=cells, published=[], plots=plots)
    [table] = run_study(Request("tiny", seeds=1, only={"encoding": {"unencoded"}}), jobs=1)
    assert table.headers[:2] == ["encoding", "size"]
    assert [row[:2] for row in table.rows] == [["unencoded", ""]]
    assert {path.name for path in (OUT / "tiny").glob("*.svg")} == {"1-bars.svg", "2-layers.svg"}

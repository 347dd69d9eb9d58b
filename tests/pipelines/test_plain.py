"""The stage plain: the configured network with plain weights, trained by the same recipe and measured as evaluate does."""

import json

import pytest

from gee_core.data.prepared import load_prepared
from pipelines import evaluate, plain, train
from tests.pipelines.conftest import CPU
from tests.pipelines.test_train_stage import write_genotype
from tests.pipelines.train_cases import PLAIN


def test_a_stopped_run_goes_on_to_the_network_that_train_makes_of_plain_weights(in_project, make_params, tmp_path, monkeypatch):
    folder = in_project(evaluate={"plain": True})
    write_genotype(folder)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "run", lambda *a, **b: exit(1))
        with pytest.raises(SystemExit):
            plain.main()
    assert len(list(folder.glob(".scratch/runs/plain-*/files/work/plain/step-*16.safetensors"))) > 0
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.train.train_epoch", None)  # nothing is left to train
        plain.main()
    params, data = (
        make_params(network={"n_genes": None}, evolve={"variant": "analytic"}),
        load_prepared(folder / "data/prepared"),
    )
    trained = train.run(params, PLAIN, data, tmp_path / "other")
    numbers, *_ = evaluate.run(params, trained.net, data, CPU)
    metrics = json.loads((folder / "reports/plain/metrics.json").read_text())
    of_plain = {f"plain_{name}": getattr(numbers, name) for name in plain.MEASURED["plain"]}
    assert metrics == of_plain | {"configured_plain_parameters": numbers.parameters}


@pytest.mark.parametrize("sections", [{}, {"network": {"n_genes": None}, "evolve": {"variant": "analytic"}}])
def test_nothing_is_trained_where_it_is_not_wanted_or_the_network_is_plain(in_project, sections):
    folder = in_project(**{"evaluate": {"plain": bool(sections)}} | sections)
    plain.main()
    assert json.loads((folder / "reports/plain/metrics.json").read_text()) == {}

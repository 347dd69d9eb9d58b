"""The stage plain: the configured network with plain weights, trained by the same recipe and measured as evaluate does."""

import json

import pytest

from gee_core.data.prepared import load_prepared
from gee_core.storage.atomic_files import write_json
from gee_core.storage.json_object import read_json_model
from pipelines import evaluate, plain, train
from pipelines.inputs.genotype_file import Controls, GenotypeFile
from tests.pipelines.conftest import CPU
from tests.pipelines.test_train_stage import write_genotype
from tests.pipelines.train_cases import PLAIN, SIGMAS


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


def test_under_a_budget_the_start_and_what_was_narrowed_are_trained_too(in_project, make_params, tmp_path):
    evolution = {"variant": "baseline", "genes": ["width", "n_genes"], "budget": {"energy": 0.5}}
    sections = {"evaluate": {"plain": True}, "evolve": evolution, "train": {"epochs": 1, "warmup_epochs": 0}}
    folder = in_project(**sections)
    write_genotype(folder)
    with pytest.raises(SystemExit):  # without a search there is no such file
        plain.main()
    params, data = make_params(**sections), load_prepared(folder / "data/prepared")
    genes = {name: SIGMAS.genes | {"width": width, "n_genes": 4} for name, width in (("start", 1 / 8), ("narrowed", 1 / 16))}
    controls = {name: SIGMAS.model_copy(update={"genes": of, "seed": 99}) for name, of in genes.items()}
    narrowed_plain = PLAIN.model_copy(update={"genes": {"width": 1 / 32}})
    write_json(folder / "models/evolve/controls.json", Controls(**controls, narrowed_plain=narrowed_plain).model_dump())
    plain.main()
    metrics = json.loads((folder / "reports/plain/metrics.json").read_text())
    seed = read_json_model(folder / "models/evolve/genotype.json", GenotypeFile).seed  # of the winner, for all
    for name, file in (*controls.items(), ("narrowed_plain", narrowed_plain)):
        of = (
            params
            if name in controls
            else make_params(**sections | {"network": {"n_genes": None}, "evolve": {"variant": "analytic"}})
        )
        net = train.run(of, file.model_copy(update={"seed": seed}), data, tmp_path / name).net
        numbers = evaluate.run(of.with_genes(file.genes), net, data, CPU)[0].model_dump()
        assert {m: metrics[f"{name}_{m}"] for m in plain.MEASURED[name]} == {m: numbers[m] for m in plain.MEASURED[name]}
    assert metrics["start_parameters"] > metrics["narrowed_parameters"]
    assert metrics["configured_plain_parameters"] > metrics["narrowed_plain_parameters"]

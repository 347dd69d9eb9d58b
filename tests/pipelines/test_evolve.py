import json

import pytest

from gee_core.config import Shape
from gee_core.data.prepared import load_prepared
from gee_core.errors import DivergedError, InputError
from gee_core.evolution.candidate import Candidate, Failure, Record, Score, failed
from gee_core.evolution.proxy import score
from gee_core.genome.genotype import Genotype, configured_genotype
from gee_core.model.wired import architecture_of
from gee_core.storage.csv_rows import csv_text
from pipelines import evolve, train
from pipelines.inputs.candidate_rows import known_scores
from pipelines.inputs.genotype_file import GenotypeFile
from pipelines.runtime.run_files import read_rows
from tests.pipelines.train_cases import every_change

pytestmark = pytest.mark.usefixtures("here_and_now")


def same(left, right):
    return repr(left) == repr(right)


def test_an_evolution_that_was_stopped_goes_on_where_it_was_and_ends_the_same(digits, make_params, tmp_path, here_and_now):
    params = make_params()
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = evolve.run(params, digits, tmp_path / "whole").records

    def stop(record, known):
        if (record.candidate.generation, record.candidate.index) == (1, 0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evolve.run(params, digits, tmp_path / "stopped", stop)
    log = tmp_path / "stopped/rows.jsonl"
    log.write_bytes(log.read_bytes()[:-10])  # the last record is cut off, and its candidate scored again
    seen = []
    for left in ([(1, 0), (1, 1), (1, 2)], []):
        here_and_now.scored.clear()
        seen.clear()
        assert same(evolve.run(params, digits, tmp_path / "stopped", lambda *record: seen.append(record)).records, whole)
        assert here_and_now.scored == left
        assert same([record for record, _ in seen], whole)  # progress counts the earlier ones again
        assert [record.candidate.place for record, known in seen if not known] == left
    assert len(read_rows(log.parent)) == len(whole)
    assert set(known_scores(log.parent)) == {record.candidate.key for record in whole}


def test_the_genotype_file_brings_back_the_very_genotype_that_was_scored(make_params):
    params = make_params()
    analytic = configured_genotype(params.network)
    scored = Candidate(1, 2, 12345, Genotype(0.1 + 0.2, tuple(s / 3 for s in analytic.sigma_X), Shape(omega_X=1 / 3)))
    best = Record(scored, Score(1.0, 1.0, 0.0, 0.0, 0.0, 0.5), 1.0, 0.75, 0.0)
    values = json.loads(json.dumps(evolve.genotype_file(params, best).model_dump()))
    assert GenotypeFile.model_validate_json(json.dumps(values)).genotype == scored.genotype
    assert (values["seed"], values["generation"], values["index"], values["fitness"]) == (12345, 1, 2, 0.75)


def test_genes_of_all_groups_evolve_from_the_configured_network_and_train_reads_them(digits, make_params, tmp_path):
    network = {"init": Shape(beta=0.5)}
    groups = ["shape", "neurons", "plasticity", "structure"]
    evolution = {"genes": groups, "n_generations": 1, "population_size": 3, "sigma": 0.5}
    params = make_params(network=network, evolve=evolution, train={"epochs": 1, "warmup_epochs": 0})
    found = evolve.run(params, digits, tmp_path)
    records, start = found.records, configured_genotype(params.network)
    settings = {name: getattr(params.evolve.proxy, name) for name in ("lr", "lr_X", "lr_O", "weight_decay")}
    settings |= params.network.model_dump(include={"v_threshold", "tau", "surrogate_alpha", "width", "tilt", "n_genes", "T"})
    assert records[0].candidate.genotype.as_dict() == pytest.approx(start.as_dict() | settings, abs=1e-12)
    assert [r.score.status for r in records] == ["ok"] * 3
    assert len({r.candidate.genotype for r in records}) == 3
    best = found.genotype.model_copy(
        update={"genes": dict(found.genotype.genes) | {"T": 3, "width": 1 / 8, "v_threshold": 0.3}}
    )
    net = train.run(params, best, load_prepared(digits), tmp_path).net
    built = architecture_of(net).network
    assert (built.T, built.width, built.v_threshold) == (3, 1 / 8, 0.3)
    assert built.n_genes == best.genes["n_genes"]
    columns = list(evolve.table(found.records, found.best, params)[0])
    assert [f"mean_{name}" for name in params.searched_genes()] == [name for name in columns if name.startswith("mean_")]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_every_setting_of_the_sections_of_evolve_is_in_the_key_of_its_folder(digits, make_params, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evolve, "PREPARED", digits)
    monkeypatch.setattr(evolve, "network_files", lambda name: [])
    (tmp_path / "other").touch()
    params = make_params()
    folders = {evolve.scores_folder(params)}
    for changed in every_change(params, "base", "network", "evolve"):
        extendable = evolve.EXTENDABLE.keys() & {key for key, value in changed.evolve if value == "other"}
        assert (evolve.scores_folder(changed) in folders) == bool(extendable)
        assert evolve.search_key(changed, digits) not in {folder.name.partition("-")[2] for folder in folders}
        folders.add(evolve.scores_folder(changed))
    (tmp_path / "meta.json").write_text((digits / "meta.json").read_text() + " ")
    assert evolve.search_key(params, tmp_path) != evolve.search_key(params, digits)


def test_what_the_machine_has_failed_is_tried_again_by_the_next_run(digits, make_params, tmp_path, here_and_now, monkeypatch):
    params = make_params()
    for name in ("whole", "hit"):
        (tmp_path / name).mkdir()
    whole = evolve.run(params, digits, tmp_path / "whole")
    died = failed("its worker process died every time (out of memory?)", Failure.MEMORY)
    monkeypatch.setattr(here_and_now, "score", lambda task, c: died if c.place == (1, 1) else score(task, c))
    assert [r.ok for r in evolve.run(params, digits, tmp_path / "hit").records] == [True] * 4 + [False, True]
    monkeypatch.setattr(here_and_now, "score", score)
    here_and_now.scored.clear()
    again = evolve.run(params, digits, tmp_path / "hit")
    assert here_and_now.scored == [(1, 1)]
    assert csv_text(evolve.table(again.records, again.best, params)) == csv_text(
        evolve.table(whole.records, whole.best, params)
    )


@pytest.mark.parametrize(
    ("failure", "remedy", "n_scored"),
    [
        (Failure.GPU_MEMORY, "lower the batch_size of this stage, GEE_WORKERS or", 3),
        (Failure.MEMORY, "lower the batch_size of this stage, GEE_WORKERS or", 3),
        (Failure.CODE, "correct what the error names", 3),
        (Failure.DIVERGED, "lower evolve.proxy.lr or narrow evolve.bound", 6),
        (Failure.BUDGET, "raise evolve.budget, lower network.n_genes, or search genes of structure", 6),
    ],
)
def test_the_remedy_is_that_of_the_reason_and_a_reason_for_all_ends_the_search(
    failure, remedy, n_scored, digits, make_params, tmp_path, here_and_now, monkeypatch
):
    monkeypatch.setattr(here_and_now, "score", lambda task, candidate: failed("so it is", failure))
    with pytest.raises(InputError) as caught:
        evolve.run(make_params(), digits, tmp_path)
    assert isinstance(caught.value, DivergedError) == (n_scored == 6)  # which a study takes for a result
    which = "6 candidates" if n_scored == 6 else "3 candidates of the first generation"
    assert str(caught.value).startswith(f"evolve: all {which} failed; the first: failed: so it is: {remedy}")
    assert len(here_and_now.scored) == n_scored

"""A search of several objectives through the stages: its files, its resumption, another member of its front, the page."""

import json

import pandas as pd
import pytest
import torch

from gee_core.data.images import PackedImages
from gee_core.data.prepared import Source, load_prepared, write_prepared
from gee_core.evolution import proxy
from gee_core.evolution.front import ranks
from gee_core.storage.csv_rows import csv_text
from gee_core.storage.json_object import read_json_model
from pipelines import evaluate, evolve, plain, train
from pipelines.figures.search import front_of_candidates
from pipelines.inputs.genotype_file import FrontFile, FrontMember, GenotypeFile
from pipelines.project.params import load_params
from pipelines.reporting.page import front_table
from pipelines.runtime.run_files import UPLOAD
from tests.pipelines.conftest import CPU, write_params
from tests.pipelines.figures.svg_checks import assert_self_contained, texts
from tests.pipelines.report_inputs import Page, changed, make
from tests.pipelines.test_evolve_stage import run_main
from tests.pipelines.train_cases import SIGMAS

OF_TWO = {"variant": "baseline", "objectives": ["loss", "energy"], "genes": ["neurons", "structure"], "sigma": 0.5}
OF_TWO |= {"population_size": 4, "n_generations": 2, "rescore": {"top": 2, "draws": 1}, "proxy": {"epochs": 1, "images": 16}}


def files(folder):
    """Those that the stage leaves."""
    names = [f"models/evolve/{name}.json" for name in ("front", "genotype")]
    names += [f"reports/evolve/{name}" for name in ("candidates.csv", "metrics.json")]
    return {name: (folder / name).read_bytes() for name in names}


def test_the_stage_leaves_a_front_and_trains_another_member_without_a_search(in_project, make_params, here_and_now):
    folder = in_project(evolve=OF_TWO)
    tracked = run_main(folder)
    front = FrontFile.model_validate_json((folder / "models/evolve/front.json").read_text())
    rows = pd.read_csv(folder / "reports/evolve/candidates.csv", keep_default_na=False, na_values=[""])
    search = rows[rows.rescored.isna()]
    assert len(search) == 8 and (rows.parameters > 0).all() and rows.energy_uj.gt(0).all() and search.seed.nunique() == 1
    assert [m.objectives["loss"] for m in front.members] == sorted(m.objectives["loss"] for m in front.members)
    points = list(search[["L_ce", "energy_uj"]].itertuples(index=False, name=None))
    names = [f"gen{g}-cand{i}" for g, i in zip(search.generation, search["index"], strict=True)]
    again = rows.set_index(["generation", "index"]).rescored
    labels = [again[member.genotype.generation, member.genotype.index].split("-") for member in front.members]
    members = {f"gen{label[0]}-cand{label[1]}" for label in labels if len(label) > 1}  # not the mean
    expected = {name: 1 if name in members else max(2, rank) for name, rank in zip(names, ranks(points), strict=True)}
    assert {name: tracked.ranked[name]["rank"] for name in names} == expected  # 1 is the front of the report, of fresh draws
    assert tracked.ranked["gen0-cand0"]["fresh_energy_uj"] == pytest.approx(rows[rows.rescored == "0-0"].energy_uj.mean())
    assert not any("rank" in found for name, found in tracked.ranked.items() if name not in names)
    volumes = [(step, values["hypervolume"]) for step, values in tracked.curves if "hypervolume" in values]
    assert volumes == list(enumerate(front.hypervolume))
    own = json.loads((folder / "models/evolve/genotype.json").read_text())
    assert own == json.loads(front.members[front.chosen - 1].genotype.model_dump_json())
    tracked_files = {path.name: path.read_text() for path in (tracked.path / UPLOAD).iterdir() if path.is_file()}
    assert tracked_files.keys() == {"candidates.csv", "genotype.json", "front.json", "front.svg", "gene_effects.svg"}
    assert {"v_threshold", "width", "T", "loss", "energy"} <= set(texts(tracked_files["gene_effects.svg"]))
    assert f"{len(front.members)} members of the front" in texts(tracked_files["front.svg"])
    before, here_and_now.scored = files(folder), []
    other = len(front.members) if front.chosen == 1 else 1
    write_params(folder / "params.yaml", make_params(evolve=OF_TWO | {"choose": other}))
    run_main(folder)
    assert here_and_now.scored == []  # another member, with the scores of the same search
    assert json.loads((folder / "models/evolve/genotype.json").read_text()) == json.loads(
        front.members[other - 1].genotype.model_dump_json()
    )
    write_params(folder / "params.yaml", make_params(evolve=OF_TWO))
    run_main(folder)
    assert files(folder) == before


def test_finalists_are_trained_again_only_where_the_training_is_another(in_project, make_params, here_and_now, monkeypatch):
    trained, real = [], proxy.train_epoch

    def noted(net, optimizer, images, recipe, epoch, *arguments):
        trained.append((recipe.cfg.epochs, len(images)))
        return real(net, optimizer, images, recipe, epoch, *arguments)

    monkeypatch.setattr(proxy, "train_epoch", noted)
    thrifty, network = OF_TWO | {"choose": "no_worse"}, {"evaluate": {"plain": True}}
    folder = in_project(evolve=thrifty, **network)
    tracked = run_main(folder)
    in_full = [name for name in tracked.names if name.startswith("full-")]
    assert in_full[0] == "full-0-0" and 2 <= len(in_full) <= 3
    assert trained.count((4, 48)) == 4 * len(in_full) and trained.count((1, 16)) == len(tracked.names) - len(in_full)
    won = read_json_model(folder / "models/evolve/genotype.json", GenotypeFile)
    rows = pd.read_csv(folder / "reports/evolve/candidates.csv", na_values=[""])
    assert (won.generation, won.index) == tuple(rows.loc[rows.winner, ["generation", "index"]].iloc[0])
    assert rows[rows.winner].in_full.item() and rows[rows.in_full].final_fitness.min() == rows[rows.winner].final_fitness.item()
    plain.main()
    compared = json.loads((folder / "reports/plain/metrics.json").read_text())
    start = read_json_model(folder / "models/evolve/front.json", FrontFile).start.model_copy(update={"seed": won.seed})
    params, data = load_params(folder / "params.yaml"), load_prepared(folder / "data/prepared")
    net = train.run(params, start, data, folder / "start").net
    assert compared["start_test_accuracy"] == evaluate.run(params, net, data, CPU)[0].test_accuracy
    here_and_now.scored.clear()
    write_params(folder / "params.yaml", make_params(evolve=thrifty, train={"epochs": 3}, **network))
    evolve.main()
    assert here_and_now.scored == [(3, index) for index in range(len(in_full))]


def test_no_choice_depends_on_the_test_images(digits, make_params, tmp_path, here_and_now):
    data, params, tables = load_prepared(digits), make_params(evolve=OF_TWO | {"choose": "no_worse"}), []
    black = PackedImages(torch.zeros_like(data.test.images), data.test.labels)
    source = Source("digits", data.meta.class_names, data.train, black, data.holdout)
    write_prepared(tmp_path / "black", "digits", source, data.meta.mean, data.meta.std)
    for prepared in (digits, tmp_path / "black"):
        (folder := tmp_path / f"run-{len(tables)}").mkdir()
        found = evolve.run(params, prepared, folder)
        tables.append(csv_text(evolve.table(found.records, found.best, params)))
    assert tables[0] == tables[1]


def member(loss: float, energy: float) -> FrontMember:
    return FrontMember(objectives={"loss": loss, "energy": energy}, price={}, proxy_accuracy=loss / 2, genotype=SIGMAS)


MADE_UP = FrontFile(hypervolume=(0.1, 0.2), chosen=2, members=(member(0.5, 3.0), member(0.8, 1.0)), start=SIGMAS)


def test_the_page_has_the_front_and_the_start_as_table(tmp_path, no_figures):
    params = changed(evolve={"objectives": ["loss", "energy"], "variant": "baseline"})
    (tmp_path / "models/evolve").mkdir(parents=True)
    (tmp_path / "models/evolve/front.json").write_text(MADE_UP.model_dump_json())
    page = Page(make(tmp_path, params)[1])
    assert "evolve.choose: NUMBER" in page.text and "nan" not in page.text.split()
    rows = front_table(MADE_UP, pd.read_csv(tmp_path / "reports/evolve/candidates.csv"))
    assert len(rows) == len(MADE_UP.members) + 1 and rows["loss"].tolist()[:2] == [0.5, 0.8]


def test_the_figure_numbers_the_members():
    table = pd.DataFrame({"L_ce": [2.0, 1.0, 3.0], "energy_uj": [0.1, 0.4, 0.3], "index": [0, 1, 2]})
    table = table.assign(
        rescored="", in_full=False, generation=0, fitness=table["L_ce"], final_fitness=table["L_ce"], winner=False
    )
    svg = front_of_candidates(table, front_table(MADE_UP, table.assign(proxy_accuracy=0.5)), MADE_UP.chosen)
    assert_self_contained(svg)
    title = f"{len(MADE_UP.members)} members of the front"
    assert {"start", "trained", str(MADE_UP.chosen), "energy per image (µJ) (log)", title} <= set(texts(svg))

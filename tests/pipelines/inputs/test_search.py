"""`evolve.start`: where a search starts, and what it refuses."""

import json
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gee_core.config import Shape
from gee_core.errors import InputError
from gee_core.evolution.price import pricing
from gee_core.genome.genotype import Genotype
from gee_core.storage.atomic_files import sha256
from pipelines import evolve
from pipelines.inputs.search import load_start, narrowed_plain, search_space, start_genotype
from pipelines.project.params import load_params
from tests.pipelines.conftest import TINY

SIGMAS = [0.1 * 1.1**layer for layer in range(8)]
OLD = Genotype(0.25, tuple(SIGMAS))
VALUES = {"network": "vgg16", "width": 1 / 16, "n_genes": 6, "genes": OLD.as_dict(), "seed": 3}


def with_genes(**genes) -> str:
    """The file with other genes."""
    return json.dumps(VALUES | {"genes": VALUES["genes"] | genes})


@pytest.fixture
def start(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "inputs/old.json"
    path.parent.mkdir()
    path.write_text(json.dumps(VALUES))
    monkeypatch.chdir(tmp_path)
    return path


def started(make_params, path, **evolve):
    return make_params(evolve={"start": str(path)} | evolve)


def test_the_first_candidate_is_the_earlier_genotype_and_all_stay_around_it(start, digits, make_params, tmp_path, here_and_now):
    (tmp_path / "scratch").mkdir()
    params = started(make_params, start, n_generations=1, bound=1.2, sigma=2.0)
    records = evolve.run(params, digits, tmp_path / "scratch").records
    found = np.array([[r.candidate.genotype.sigma_O, *r.candidate.genotype.sigma_X] for r in records])
    np.testing.assert_allclose(found[0], [0.25, *SIGMAS])
    ratios = found / [0.25, *SIGMAS]
    assert ((ratios > 1 / 1.2 - 1e-9) & (ratios < 1.2 + 1e-9)).all()
    assert not np.allclose(ratios[1:], 1)


def test_a_search_of_shape_starts_at_the_shape_of_a_file_or_of_the_network(start, make_params):
    init = {"network": {"name": "vgg16", "width": 1 / 16, "n_genes": 6, "T": 2}}
    start.write_text(with_genes(omega_X=0.5, tau=1.5))
    params = started(make_params, start, genes=["shape"])
    assert evolve.search_space(params).start == replace(OLD, shape=Shape(omega_X=0.5), settings=(("tau", 1.5),))
    start.write_text(with_genes(v_threshold=0.75))
    found = evolve.search_space(started(make_params, start, genes=["v_threshold", "tau"])).start
    settings = started(make_params, start).network
    assert dict(found.settings) == {"v_threshold": 0.75, "tau": settings.tau} and settings.v_threshold != 0.75
    init["network"]["init"] = Shape(beta=0.5)
    own = evolve.search_space(make_params(evolve={"genes": ["shape"]}, **init))
    assert own.start.shape == Shape(beta=0.5)


def test_a_file_and_init_with_different_shapes_are_refused(start, make_params):
    start.write_text(with_genes(beta=0.5))
    params = started(make_params, start)
    for init, refused in ((None, False), (Shape(beta=0.5), False), (Shape(omega_O=1.0), True), (Shape(), True)):
        changed = params.model_copy(update={"network": params.network.model_copy(update={"init": init})})
        with pytest.raises(InputError, match=r"network\.init another: set .* null") if refused else nullcontext():
            assert load_start(changed).shape == Shape(beta=0.5)


UNIT = {"start": "unit", "bound": 20.0}


@pytest.mark.parametrize("form", [["wiring"], ["sigma_O", "sigma_X"]])
def test_unit_starts_where_all_sigmas_are_1(form, make_params):
    params = make_params(evolve=UNIT | {"genes": form}, network=make_params().network.model_dump() | {"init": Shape(beta=0.5)})
    space = evolve.search_space(params)
    assert space.start == Genotype(1.0, (1.0,) * 8, Shape(beta=0.5))
    assert (space.start_vector() == 0).all()


BAD = {
    "{": "not a genotype to start at",
    json.dumps({key: value for key, value in VALUES.items() if key != "genes"}): "not a genotype to start at (lacks genes)",
    json.dumps(VALUES | {"n_genes": None, "genes": {}}): "a plain network has no genes",
    json.dumps(VALUES | {"width": 2.0}): "a genotype of another search ({'network': 'vgg16', 'width': 2.0, ",
    with_genes(sigma_O=1e308): "sigma_O must be > 0 and finite in float32",
}


def test_a_start_that_is_no_use_is_one_message(start, make_params):
    for text, reason in BAD.items():
        start.write_text(text)
        with pytest.raises(InputError) as caught:
            start_genotype(started(make_params, start))
        message = str(caught.value)
        assert message.startswith(f"evolve.start = {start}: ") and "\n" not in message and reason in message
        assert message.endswith("name a genotype.json of an earlier evolve, or `analytic`")
    start.unlink()
    os.mkfifo(start)
    with pytest.raises(InputError, match="not a file"):
        start_genotype(started(make_params, start))


def test_a_start_that_dvc_does_not_watch_is_refused(start, make_params):
    for path in ("old.json", "inputs/../old.json", "inputs2/old.json"):
        with pytest.raises(InputError) as caught:
            load_start(started(make_params, path))
        assert str(caught.value).startswith(f"evolve.start = {path}: not in the folder inputs/")
        assert str(caught.value).endswith(f"copy the file there and set evolve.start to inputs/{Path(path).name}")
    (start.parent / "a").mkdir()
    for path in ("./inputs/old.json", "inputs/a/../old.json"):
        assert load_start(started(make_params, path)) == load_start(started(make_params, start))


def test_its_checksum_stands_in_the_genotype_and_another_content_is_another_search(in_project, start, here_and_now):
    folder = in_project(evolve={"start": str(start), "n_generations": 1, "population_size": 2})
    seen = []
    for sigma_O in (0.25, 0.3):
        start.write_text(with_genes(sigma_O=sigma_O))
        evolve.main()
        genotype = json.loads((folder / "models/evolve/genotype.json").read_text())
        assert genotype["start"] == {"path": str(start), "sha256": sha256(start)}
        seen.append(evolve.scores_folder(load_params()))
    assert len(set(seen)) == 2  # two run folders: neither takes over the other's scores


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"train": {"sizes": [8, 9]}}, r"train.sizes = \[8, 9\]: the images have 8 pixels, not 9: set it to 8 or less"),
        (
            {"evolve": {"proxy": {"epochs": 1, "sizes": [4]}}},
            r"evolve.proxy.sizes = \[4\]: vgg16 does not run on images of 4 pixels: leave out 4, or choose 8 or more",
        ),
    ],
)
def test_a_size_that_fits_no_image_or_network_is_refused_where_it_is_known(sections, says, make_params):
    with pytest.raises(ValueError, match=says):
        make_params(**sections)
    later = make_params(**sections, prepare={"dataset": "folder", "image_size": None})
    with pytest.raises(InputError, match=says):
        later.check_sizes(8)
    make_params(train={"sizes": [8]}).check_sizes(8)


SOLVED = {"variant": "baseline", "genes": ["width", "n_genes", "T"]}
OUTSIDE = {
    r"the narrowest network has bytes = \d+, the limit is 100: raise the": {"budget": {"bytes": 100}},
    r"the narrowest network has steps = 2, the limit is 1: lower network.T": {
        "genes": ["width", "tilt"],
        "budget": {"steps": 1},
    },
    r"the start has parameters = [\d,]+, the limit is 5,000: add width": {"genes": ["tilt"], "budget": {"parameters": 5000}},
    r"the start has energy_uj = 0.0.*: add width to": {"genes": ["tilt"], "budget": {"energy": 0.5}},
    r"the narrowest network has 4.75 times the .*: add n_genes": {"genes": ["width", "tilt"], "budget": {"energy": 0.05}},
}


@pytest.mark.parametrize("says", OUTSIDE)
def test_a_start_that_no_width_brings_inside_is_refused_before_any_training(says, digits, make_params, tmp_path, here_and_now):
    with pytest.raises(InputError, match=rf"^evolve\.budget: {says}"):
        evolve.run(make_params(evolve=SOLVED | OUTSIDE[says]), digits, tmp_path)
    assert here_and_now.scored == []


def test_an_analytic_wiring_has_no_budget(make_params, digits):
    params = make_params(evolve={"variant": "analytic", "budget": {"bytes": 1}})
    assert search_space(params, digits) == search_space(params)


def test_the_narrowed_plain_network_is_within_the_budget(make_params, digits):
    params = make_params(evolve=SOLVED | {"budget": {"energy": 0.5}}, network=TINY["network"] | {"width": 0.25})
    space = search_space(params, digits)
    width = narrowed_plain(params, space, digits, 1.0)
    network = params.network.model_copy(update={"n_genes": None})
    at = Genotype(1.0, (), settings=(("width", width),))
    energy = pricing(network, digits, (4.6, 0.9))(at).energy_uj
    assert 0.9 * space.allowance.limits["energy_uj"] < energy <= space.allowance.limits["energy_uj"]
    assert narrowed_plain(params, space, digits, 1.5) < width < 0.25

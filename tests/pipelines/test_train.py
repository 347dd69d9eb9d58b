"""What a training run starts from, trains on and reports; a run that was interrupted ends as one that was not."""

from typing import NamedTuple

import pytest
import torch

from gee_core.compute import Compute
from gee_core.config import Params
from gee_core.data.prepared import Prepared, load_prepared
from gee_core.errors import DivergedError
from gee_core.model.wired import wired_network
from gee_core.snn.lif import LIF
from gee_core.training.loop import accuracy_and_loss, for_inference
from pipelines import train
from pipelines.inputs.genotype_file import GenotypeFile
from tests.pipelines.train_cases import PLAIN, RATED, SHAPED, SIGMAS, settings

QUANTISE = {"format": "int4", "epochs": 2}
CASES = {
    "genetic": (SIGMAS, {"crop_padding": 1, "randaugment": 3, "noise": 0.5, "spike_penalty": 1.0}),
    "plain": (PLAIN, {"include_holdout": False, "flip": True, "erasing": 0.5, "whiten": True}),
    "tet": (SIGMAS, {"optimizer": "sgd", "lr": 0.1, "loss": "tet", "tet_lambda": 0.05, "quantise": QUANTISE, "whiten": True}),
}


class Whole(NamedTuple):
    """A run that nothing has interrupted."""

    params: Params
    genotype: GenotypeFile
    data: Prepared
    trained: train.Trained
    states: list[bytes]


@pytest.fixture(scope="module", params=CASES)
def whole(request, digits, make_params, tmp_path_factory) -> Whole:
    genotype, changes = CASES[request.param]
    params, data, folder = (
        make_params(**settings(genotype.n_genes, **changes)),
        load_prepared(digits),
        tmp_path_factory.mktemp("w"),
    )
    trained = train.run(params, genotype, data, folder)
    return Whole(params, genotype, data, trained, newest(folder))


def newest(folder) -> list[bytes]:
    return [max(folder.glob(f"step-*{end}")).read_bytes() for end in (".safetensors", ".json")]


def test_a_training_that_was_stopped_goes_on_and_ends_bit_for_bit_the_same(whole, tmp_path):
    def stop_after(epoch):
        def stop(row):
            if row["epoch"] == epoch:
                raise KeyboardInterrupt

        return stop

    arguments = whole.params, whole.genotype, whole.data, tmp_path
    for epoch in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            train.run(*arguments, stop_after(epoch))
    seen, epochs = [], []
    again = train.run(*arguments, seen.append, on_step=epochs.append)
    assert again.rows == whole.trained.rows == seen
    resumed = again.net.state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.trained.net.state_dict().items())
    assert newest(tmp_path) == whole.states  # the optimiser's moments too
    steps = 4 if whole.params.train.include_holdout else 3  # of 64 images, or of 48
    assert epochs == [3 + step / steps for step in range(1, steps)]


def test_a_row_has_the_losses_of_its_epoch_and_of_the_holdout_and_firing_rates(whole):
    net, rows, metrics, _ = whole.trained
    held_out = not whole.params.train.include_holdout
    watched = ["val_accuracy", "val_loss"] if held_out else ["test_accuracy", "test_loss"]
    trained, rated = ["epoch", "lr", "train_loss", "train_accuracy"], [f"firing_rate/{layer}" for layer in RATED]
    assert [list(row) for row in rows] == [[*trained, *rated]] * 3 + [[*trained, *watched, *rated]]
    holdout, normalise, last = whole.data.holdout_images(), whole.data.meta.normalise, rows[-1]
    shown = trained[2:] + watched * held_out
    assert {key: metrics[key] for key in shown} == {key: last[key] for key in shown}
    seen = holdout if held_out else whole.data.test
    measured = accuracy_and_loss(for_inference(net), seen, 5, normalise, Compute.of("cpu", "fp32"))
    assert (last[watched[0]], last[watched[1]]) == pytest.approx(measured)
    rates = []
    net.eval()
    hooks = [m.register_forward_hook(lambda m, x, s: rates.append(s.double().mean().item())) for m in lifs(net)]
    with torch.no_grad():
        net(normalise(holdout.images))
    for hook in hooks:
        hook.remove()
    assert [last[f"firing_rate/{layer}"] for layer in RATED] == pytest.approx(rates)
    assert sum(rates) > 0


def test_a_training_is_validated_every_few_epochs_and_is_the_same_without(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "VALIDATION", 0.1)  # 24 test images of 3 × 64 that are trained on, or 16 of 3 × 48
    trained = train.run(whole.params, whole.genotype, whole.data, tmp_path)
    seen = [row["epoch"] for row in trained.rows if {"val_loss", "test_loss"} & row.keys()]
    assert seen == [2, 4]
    states = [net.state_dict().values() for net in (whole.trained.net, trained.net)]
    assert all(torch.equal(*pair) for pair in zip(*states, strict=True))


def lifs(net):
    return [module for module in net.modules() if isinstance(module, LIF)]


@pytest.mark.parametrize("genotype", [SHAPED, PLAIN], ids=["shaped", "plain"])
def test_training_starts_at_the_wiring_that_was_scored_or_at_a_fresh_draw(genotype, digits, make_params):
    meta = load_prepared(digits).meta

    def start(wiring_seed, seed):
        params = make_params(**settings(genotype.n_genes, wiring_seed=wiring_seed))
        net, errors = train.start_network(params, genotype.model_copy(update={"seed": seed}), meta)
        assert errors == {}
        return params, net.state_dict()

    params, scored = start("candidate", 7)
    expected = wired_network(params.network, meta, genotype.genotype, 7).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in scored.items())
    (_, fresh), (_, other) = start("fresh", 7), start("fresh", 8)
    assert all(torch.equal(value, other[name]) for name, value in fresh.items())
    assert any(not torch.equal(value, scored[name]) for name, value in fresh.items())


def test_a_training_that_diverges_says_what_to_lower(digits, make_params, tmp_path):
    with pytest.raises(DivergedError, match=r"train: the training loss is nan in epoch .*: lower train\.lr = 1e\+30"):
        train.run(make_params(train={"lr": 1e30}), SIGMAS, load_prepared(digits), tmp_path)

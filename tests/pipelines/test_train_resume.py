"""A training run that was interrupted ends bit for bit as an uninterrupted one."""

import pytest
import torch

from gee_core.data.prepared import load_prepared
from pipelines import train
from tests.pipelines.train_cases import BOTH, SIGMAS, settings

AUGMENT = {"crop_padding": 1, "flip": True, "randaugment": 3, "erasing": 0.5}


def stop_after(epoch):
    def stop(row):
        if row["epoch"] == epoch:
            raise KeyboardInterrupt

    return stop


def equal(left, right):
    return all(torch.equal(value, right.state_dict()[name]) for name, value in left.state_dict().items())


def check_that_stopping_changes_nothing(params, genotype, prepared, folder, epochs, **callbacks) -> tuple:
    """A run that is stopped after each of ``epochs`` ends with the bytes of one that is not; returns the network and its rows.

    ``callbacks`` are given to its last part.
    """
    data = load_prepared(prepared)
    for name in ("whole", "stopped"):
        (folder / name).mkdir()
    net, rows, _ = train.run(params, genotype, data, folder / "whole")
    for epoch in epochs:
        with pytest.raises(KeyboardInterrupt):
            train.run(params, genotype, data, folder / "stopped", stop_after(epoch))
    resumed, again, _ = train.run(params, genotype, data, folder / "stopped", **callbacks)
    assert again == rows
    assert equal(net, resumed)
    states = [max((folder / name).glob("step-*.safetensors")).read_bytes() for name in ("whole", "stopped")]
    assert states[0] == states[1]  # the optimiser's moments too
    return net, rows


@BOTH
@pytest.mark.parametrize("include_holdout", [True, False])
def test_a_training_that_was_stopped_goes_on_and_ends_bit_for_bit_the_same(
    n_genes, genotype, include_holdout, digits, make_params, tmp_path
):
    params = make_params(**settings(n_genes, include_holdout=include_holdout, **AUGMENT))
    seen, epochs = [], []
    callbacks = {"on_epoch": seen.append, "on_step": epochs.append}
    _, rows = check_that_stopping_changes_nothing(params, genotype, digits, tmp_path, (1, 3), **callbacks)
    assert seen == rows
    steps = 4 if include_holdout else 3
    assert epochs == [3 + step / steps for step in range(1, steps)]


def test_a_training_with_sgd_and_tet_that_was_stopped_ends_bit_for_bit_the_same(digits, make_params, tmp_path):
    changes = {"optimizer": "sgd", "momentum": 0.9, "lr": 0.1, "loss": "tet", "tet_lambda": 0.05}
    net, _ = check_that_stopping_changes_nothing(make_params(**settings(**changes)), SIGMAS, digits, tmp_path, (2,))
    (tmp_path / "other").mkdir()
    params = make_params(**settings(**changes | {"loss": "ce"}))
    other, *_ = train.run(params, SIGMAS, load_prepared(digits), tmp_path / "other")
    assert not equal(net, other)


def test_a_training_that_was_killed_while_it_saved_an_epoch_goes_on_all_the_same(digits, make_params, tmp_path, monkeypatch):
    params, data = make_params(), load_prepared(digits)
    net, rows, _ = train.run(params, SIGMAS, data, tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    import gee_core.checkpoint

    written, write = [], gee_core.checkpoint.write_json

    def killed(path, values):
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        write(path, values)

    with monkeypatch.context() as patch:
        patch.setattr(gee_core.checkpoint, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            train.run(params, SIGMAS, data, tmp_path)
    resumed, again, _ = train.run(params, SIGMAS, data, tmp_path)
    assert again == rows
    assert equal(net, resumed)


def test_a_training_that_was_stopped_among_its_rounded_epochs_ends_bit_for_bit_the_same(digits, make_params, tmp_path):
    quantise = {"format": "int4", "epochs": 3}
    params, data = make_params(**settings(quantise=quantise)), load_prepared(digits)
    _, rows = check_that_stopping_changes_nothing(params, SIGMAS, digits, tmp_path, (2, 3))
    (tmp_path / "without").mkdir()
    _, without, _ = train.run(make_params(**settings()), SIGMAS, data, tmp_path / "without")
    assert without[0] == rows[0]
    assert all(row["train_loss"] != other["train_loss"] for row, other in zip(rows[1:], without[1:], strict=True))

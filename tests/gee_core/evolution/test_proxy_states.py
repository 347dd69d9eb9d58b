"""A candidate that was stopped ends with the score and the network of one that was trained in one go."""

from dataclasses import replace

import pytest

from gee_core.evolution import proxy
from gee_core.evolution.proxy import score
from gee_core.evolution.proxy_task import checkpoint_name, forget_generation
from tests.gee_core.evolution.proxy_task import candidate, changed


def score_until(task, candidate, n_states, monkeypatch):
    """Train ``candidate`` until ``n_states`` states are kept, then stop."""
    real, left = proxy.train_epoch, iter(range(n_states - 1))

    def train_epoch(*arguments):
        *others, on_step = arguments

        def stop_on_step(mid_epoch):
            on_step(mid_epoch)
            if next(left, None) is None:
                raise KeyboardInterrupt

        return real(*others, stop_on_step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(proxy, "train_epoch", train_epoch)
        score(task, candidate)


def test_a_candidate_that_was_stopped_in_mid_epoch_ends_with_the_same_score_and_network(task, tmp_path, monkeypatch):
    task = changed(task, proxy_epochs=3, whiten=True)
    whole = score(replace(task, checkpoints=tmp_path / "whole"), candidate())
    stopped = replace(task, checkpoints=tmp_path / "stopped", save_seconds=0.0)
    for n_states in (2, 2, 1):  # three epochs have six moments at which one is kept
        score_until(stopped, candidate(), n_states, monkeypatch)
    epochs, real = [], proxy.train_epoch
    monkeypatch.setattr(proxy, "train_epoch", lambda *a: (epochs.append(a[4]), real(*a))[1])
    assert score(stopped, candidate()) == whole
    assert epochs == [2]
    name = checkpoint_name(candidate())
    assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_state_of_another_wiring_in_the_same_place_is_not_used(task, tmp_path, monkeypatch):
    kept = replace(task, checkpoints=tmp_path, save_seconds=0.0)
    score_until(kept, candidate(sigma=0.3), 3, monkeypatch)
    assert score(kept, candidate()) == score(task, candidate())
    assert list(tmp_path.glob("*-step*"))
    forget_generation(tmp_path, candidate().generation)
    assert not list(tmp_path.glob("*-step*"))

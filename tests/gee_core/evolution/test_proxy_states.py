"""A candidate that is scored rung by rung, or was stopped, ends with the score of one that was trained in one go."""

from dataclasses import replace

import pytest

from gee_core.evolution import proxy
from gee_core.evolution.proxy import score
from gee_core.evolution.proxy_task import checkpoint_name, forget_rungs
from tests.gee_core.evolution.proxy_task import candidate, changed


@pytest.mark.parametrize("norm_images", [None, 16])
@pytest.mark.parametrize("folder", [True, False], ids=["going on from its state", "from its wiring again"])
def test_a_candidate_that_is_scored_rung_by_rung_ends_with_the_same_score_and_network(
    folder, norm_images, task, tmp_path, monkeypatch
):
    task = changed(task, proxy_epochs=3, norm_images=norm_images, whiten=norm_images is None)
    whole = score(replace(task, checkpoints=tmp_path / "whole"), candidate(0))
    epochs, real = [], proxy.train_epoch
    monkeypatch.setattr(proxy, "train_epoch", lambda *a: (epochs.append(a[4]), real(*a))[1])
    rungs = replace(task, checkpoints=tmp_path / "rungs" if folder else None)
    found = [score(rungs, replace(candidate(0), epochs=n)) for n in (1, 2, 3)]
    assert found[-1] == whole
    assert epochs == ([0, 1, 2] if folder else [0, 0, 1, 0, 1, 2])
    assert [3 * s.image_passes for s in found] == [whole.image_passes, 2 * whole.image_passes, 3 * whole.image_passes]
    if folder:
        name = checkpoint_name(candidate(0))
        assert (tmp_path / "rungs" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_state_of_another_wiring_in_the_same_place_is_not_used(task, tmp_path):
    task = changed(replace(task, checkpoints=tmp_path), proxy_epochs=3)
    for n in (1, 2):
        score(task, replace(candidate(0, sigma=0.3), epochs=n))
    assert score(task, replace(candidate(0), epochs=3)) == score(replace(task, checkpoints=None), candidate(0))
    forget_rungs(tmp_path, 2)
    assert not list(tmp_path.glob("*-step*"))


@pytest.mark.parametrize("halving", [True, False])
def test_a_candidate_that_was_stopped_in_mid_epoch_ends_with_the_same_score_and_network(halving, task, tmp_path, monkeypatch):
    task = changed(task, proxy_epochs=3)
    candidates = [replace(candidate(0), epochs=n) for n in (1, 2, 3)] if halving else [candidate(0)]
    whole = [score(replace(task, checkpoints=tmp_path / "whole"), c) for c in candidates]
    stopped, real, done = replace(task, checkpoints=tmp_path / "stopped", save_seconds=0.0), proxy.train_epoch, []
    for n_states in (2, 3, 1):  # three epochs have six moments at which one is kept
        left = iter(range(n_states - 1))

        def stop(*arguments, left=left):
            *others, on_step = arguments

            def stop_on_step(mid_epoch):
                on_step(mid_epoch)
                if next(left, None) is None:
                    raise KeyboardInterrupt

            return real(*others, stop_on_step)

        with monkeypatch.context() as patch:
            patch.setattr(proxy, "train_epoch", stop)
            with pytest.raises(KeyboardInterrupt):
                done += (score(stopped, c) for c in candidates[len(done) :])
    assert [*done, *(score(stopped, c) for c in candidates[len(done) :])] == whole
    name = checkpoint_name(candidate(0))
    assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_rung_that_was_killed_after_its_state_was_kept_is_measured_again(task, tmp_path, monkeypatch):
    task = changed(replace(task, checkpoints=tmp_path), proxy_epochs=3)
    first = score(task, replace(candidate(0), epochs=1))
    monkeypatch.setattr(proxy, "train_epoch", lambda *_: pytest.fail("trained again"))
    assert score(task, replace(candidate(0), epochs=1)) == first

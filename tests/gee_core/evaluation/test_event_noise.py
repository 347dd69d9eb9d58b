import pytest
import torch

from gee_core.evaluation.noise import NOISE_OF_EVENTS, noisy_recordings
from gee_core.rank import Place

N = 500
RECORDINGS = torch.randint(0, 7, (N, 4, 2, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def noisy(kind, r, clip=255, images=RECORDINGS, place=None):
    return noisy_recordings(images, kind, r, clip, torch.Generator().manual_seed(1), place)


@pytest.mark.parametrize("kind", NOISE_OF_EVENTS)
def test_no_noise_changes_nothing_and_a_seed_gives_the_same_noise_to_a_batch_and_to_its_parts(kind):
    assert torch.equal(noisy(kind, 0.0), RECORDINGS)
    whole, part = noisy(kind, 0.5), noisy(kind, 0.5, images=RECORDINGS[7:9], place=Place(7, N))
    assert torch.equal(whole[7:9], part) and part.dtype == torch.uint8
    assert torch.equal(noisy(kind, 0.5, clip=3), noisy(kind, 0.5).clamp(max=3))


def test_the_share_of_events_that_is_dropped_added_or_moved_is_r():
    events = RECORDINGS.sum().item()
    assert noisy("dropped", 0.25).sum().item() / events == pytest.approx(0.75, abs=0.01)
    assert not noisy("dropped", 1.0).any()
    for kind in ("spurious", "hot"):
        added = (noisy(kind, 0.25).int() - RECORDINGS).sum((1, 2, 3, 4))
        wanted = (RECORDINGS.sum((1, 2, 3, 4)) * 0.25).round()
        assert torch.equal(added, wanted.long())


def test_hot_pixels_are_few_and_spurious_events_are_everywhere():
    added = {kind: (noisy(kind, 1.0).int() - RECORDINGS).sum(1).flatten(1) for kind in ("hot", "spurious")}
    assert ((added["hot"] > 0).sum(1) == 1).all()  # 1 % of 2 x 6 x 6, at least one
    assert (added["spurious"] > 0).float().mean() > 0.9


def test_jitter_moves_events_by_one_frame_and_keeps_their_places_and_number():
    moved = noisy("jitter", 0.5)
    assert torch.equal(moved.sum(1), RECORDINGS.sum(1))
    one = torch.zeros_like(RECORDINGS)
    one[:, 1] = 100
    share = noisy("jitter", 0.5, images=one).sum((0, 2, 3, 4)) / one.sum()
    assert share.tolist() == pytest.approx([0.25, 0.5, 0.25, 0.0], abs=0.01)
    assert torch.equal(noisy("jitter", 1.0, images=one[:, 1:2]), one[:, 1:2])  # a single frame
    ends = noisy("jitter", 1.0, images=one.roll(-1, 1))  # from the first frame there is one way
    assert ends.sum((0, 2, 3, 4)).tolist() == [0, one.sum().item(), 0, 0]

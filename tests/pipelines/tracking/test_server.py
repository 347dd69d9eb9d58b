"""Against a real `mlflow server`, killed and started again."""

import pytest

from benchmarks.tracking import disturbed


@pytest.mark.slow
@pytest.mark.parametrize("back", [True, False], ids=["back again", "away to the end"])
def test_every_candidate_is_found_exactly_once_after_the_server_was_killed_and_a_replay(back):
    found = disturbed(30, 0.2, back)
    assert (found["missing"], found["doubled"]) == (0, 0)
    assert found["again"] == 0
    assert back or found["left"] > 10

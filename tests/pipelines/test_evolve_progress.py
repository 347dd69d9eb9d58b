import math

from gee_core.evolution.candidate import Candidate, Record, Score
from pipelines import evolve


def test_the_progress_compares_candidates_of_all_generations_at_the_latest_weight_of_the_regularisers(make_params):
    def record(generation: int, loss: float, rescored: str = "", status: str = "ok") -> Record:
        candidate = Candidate(generation, 0, 0, None, rescored=rescored)
        measured = Score(loss, 0.0, 1.0, 0.0, 0.0, 0.5, status)
        decay = [1.0, 0.5][min(generation, 1)]
        return Record(candidate, measured, decay, loss - 0.2 * decay, 0.0)

    params, bad = make_params(evolve={"a": 0.2}), record(0, math.nan, status="failed: diverged")
    first, second, again = record(0, 0.7), record(1, 0.65), record(2, 0.1, "1-0")
    notes = [evolve.note_of_progress([bad, first, second, again][:n], params) for n in range(1, 5)]
    assert first.fitness < 0.55 <= second.fitness  # though the second is better
    assert notes == [
        "generation 0, best F nan",
        "generation 0, best F 0.500",
        "generation 1, best F 0.550",
        "scoring again, best F 0.550",
    ]

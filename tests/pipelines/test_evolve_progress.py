import math

from gee_core.evolution.candidate import Candidate, Record, Score
from pipelines import evolve


def test_the_progress_tells_the_best_of_the_generation_at_work(make_params):
    def record(generation: int, loss: float, rescored: str = "", status: str = "ok") -> Record:
        candidate = Candidate(generation, 0, 0, None, rescored=rescored)
        measured = Score(loss, 0.0, 1.0, 0.0, 0.0, 0.5, status)
        decay = [1.0, 0.5][min(generation, 1)]
        return Record(candidate, measured, decay, loss - 0.2 * decay, 0.0)

    params, bad = make_params(evolve={"a": 0.2}), record(0, math.nan, status="failed: diverged")
    records = [bad, record(0, 0.7), record(0, 0.8), record(1, 0.95), record(2, 0.1, "1-0")]
    assert [evolve.note_of_progress(records[:n], params) for n in range(1, 6)] == [
        "generation 0, its best F nan",
        "generation 0, its best F 0.500",
        "generation 0, its best F 0.500",
        "generation 1, its best F 0.850",
        "scoring again",
    ]

"""The engine `processes`: worker processes on this machine."""

from collections import deque
from collections.abc import Iterator, Sequence

from pipelines.engines.engine import Engine, WorkerDied
from pipelines.runtime.worker_process import Answer, Function, Job, Result, Tell, WorkerProcess, end_workers, wait_for_any


class Processes(Engine):
    """``count`` processes with ``threads`` torch threads each.

    Each sees one of ``gpus``, in turn (names for CUDA_VISIBLE_DEVICES); if there are none, what this process sees.
    """

    def __init__(self, count: int, threads: int = 1, gpus: Sequence[str] = ()):
        self._count, self._threads, self._gpus = count, threads, gpus
        self._workers: dict[int, WorkerProcess] = {}

    def room(self) -> int:
        return self._count

    def stop(self) -> None:
        end_workers(list(self._workers.values()))
        self._workers = {}

    def each(
        self, function: Function[Job, Result], jobs: Sequence[Job], on_note: Tell
    ) -> Iterator[tuple[Job, Result | WorkerDied]]:
        queue, running, died = deque(jobs), dict[int, Job](), False
        answers: list[tuple[Job, Answer]] = []
        try:
            while queue or running or answers:
                for place in range(self._count):
                    if queue and place not in running:
                        running[place] = queue.popleft()
                        self._worker(place).begin(function, running[place])
                for job, answer in answers:  # after the next jobs have begun
                    if answer.error is not None:
                        raise answer.error
                    died = died or answer.exitcode is not None
                    yield job, answer.result if answer.exitcode is None else WorkerDied()
                answers = []
                if running:
                    wait_for_any(self._workers[place] for place in running)
                for place in list(running):
                    if found := self._workers[place].answer(on_note):
                        answers.append((running.pop(place), found))
        finally:
            if running or died:  # idle processes hold memory, too
                self.stop()

    def _worker(self, place: int) -> WorkerProcess:
        """The process at ``place``, a new one if there is none or it has died."""
        found = self._workers.get(place)
        if found is None or not found.process.is_alive():
            gpu = {"CUDA_VISIBLE_DEVICES": self._gpus[place % len(self._gpus)]} if self._gpus else {}
            found = self._workers[place] = WorkerProcess(gpu, self._threads)
        return found

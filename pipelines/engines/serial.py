"""The engine `serial`: runs jobs in this process, one after the other."""

from collections.abc import Callable
from concurrent.futures import Executor, Future

from pipelines.engines.engine import Engine


class Serial(Engine):
    """Runs each job when it is submitted, with ``threads`` torch threads (None: as many as the process has)."""

    def __init__(self, threads: int | None = None):
        super().__init__()
        self._threads = threads

    def start(self) -> Executor:
        return _Here(self._threads)

    def stop(self) -> None:
        self._executor = None

    def room(self) -> int:
        return 1


class _Here(Executor):
    def __init__(self, threads: int | None):
        self._threads = threads

    def submit(self, function: Callable, /, *args, **kwargs) -> Future:
        import torch

        future, threads = Future(), torch.get_num_threads()
        torch.set_num_threads(self._threads or threads)
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        finally:
            torch.set_num_threads(threads)
        return future

"""Which part of the work a process does where several do it together."""

from typing import NamedTuple


class Rank(NamedTuple):
    """Which of the processes that compute together this one is, as in `torch.distributed`."""

    number: int = 0
    """From 0."""
    of: int = 1
    """Number of processes."""

    def share(self, n: int) -> slice:
        """Which of ``n`` images are this process's; the shares of two processes differ by one image at most."""
        return slice(self.number * n // self.of, (self.number + 1) * n // self.of)


ALONE = Rank()
"""The only process."""

"""Which part of the work a process does where several do it together."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # so that parts of the pipeline that do without torch can ask which process they are in
    from torch import Tensor


class Place(NamedTuple):
    """Where images stand in a batch of which other processes have the rest: draws are made for the whole batch."""

    first: int
    """Position of the first image, from 0."""
    of: int
    """Images of the whole batch."""

    def of_all(self, draws: "Tensor", n: int, dim: int = 0) -> "Tensor":
        """Those of ``n`` images, of ``draws`` whose dimension ``dim`` is the whole batch's."""
        return draws.narrow(dim, self.first, n)


class Rank(NamedTuple):
    """Which of the processes that compute together this one is, as in `torch.distributed`."""

    number: int = 0
    """From 0."""
    of: int = 1
    """Number of processes."""

    def share(self, n: int) -> slice:
        """Which of ``n`` images are this process's; the shares of two processes differ by one image at most."""
        return slice(self.number * n // self.of, (self.number + 1) * n // self.of)

    def place(self, n: int) -> Place:
        """Where they stand in a batch of ``n`` images."""
        return Place(self.share(n).start, n)


ALONE = Rank()
"""The only process."""

"""What all training data have in common: a batch follows from the run's seed and its number."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from torch.utils.data import Dataset

T = TypeVar("T")


class Batches(Dataset[T], ABC, Generic[T]):
    """Batch number ``i`` of a run.

    Sample ``k`` of it follows from the run's seed and ``i * batch + k`` alone: the number of
    workers changes nothing, a resumed run sees what the interrupted one would have seen, and
    processes can each make their share of the same batch.
    """

    batch: int
    """Samples in a batch."""
    count: int
    """Batches in the run."""

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> T:
        """A whole batch."""
        return self.samples(number, range(self.batch))

    @abstractmethod
    def samples(self, number: int, rows: range) -> T:
        """Some of a batch's samples.

        Args:
            number: of the batch.
            rows: which samples of it, at least one.
        """

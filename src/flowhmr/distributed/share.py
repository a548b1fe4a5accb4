"""One part of several of a piece of work."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """Part ``index`` of ``count``; the whole by default."""

    index: int = 0
    """Which part, from 0."""
    count: int = 1
    """How many there are."""

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(
                f"share: got number {self.index} of {self.count}; expected a number from 0 to "
                f"{self.count - 1}, of at least one share"
            )

    def of(self, items: Sequence[T]) -> list[T]:
        """Every ``count``-th item: together the shares have each of them once."""
        return list(items[self.index :: self.count])

    def rows(self, batch: int, name: str = "batch") -> range:
        """Which samples of a batch are this share's; all shares are of one size.

        Args:
            batch: samples of the whole batch.
            name: of the setting, for the error.

        Raises:
            ValueError: the batch cannot be divided so.
        """
        each, rest = divmod(batch, self.count)
        if rest:
            below, above = each * self.count, (each + 1) * self.count
            sizes = f"{below} or {above}" if below else f"{above}"
            raise ValueError(
                f"{name}: got {batch} samples a step for {self.count} processes; expected a "
                f"multiple of {self.count}, since each process takes an equal share of the same "
                f"batch; set it to {sizes}, or start another number of processes"
            )
        return range(self.index * each, (self.index + 1) * each)

"""A share of the samples, so that several machines can calibrate one model."""

import msgspec

from qbench.data.samples import Source, every
from qbench.errors import UsageError


class Shard(msgspec.Struct, frozen=True, order=True):
    """Every `count`-th sample, from `index` on; there are at least two shards."""

    index: int
    count: int

    def __post_init__(self) -> None:
        """Check that there is such a shard.

        Raises:
            ValueError: There is none.
        """
        if not 0 <= self.index < self.count or self.count < 2:
            raise ValueError(f"there is no shard {self}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, source: Source) -> Source:
        """Return the samples of this shard.

        Raises:
            UsageError: There are none.
        """
        size = len(source)
        if self.index >= size:
            raise UsageError(f"shard {self} of {size} samples is empty; use at most {size} shards")
        return every(source, self.count, start=self.index)


def parse_shard(text: str) -> Shard | None:
    """Return the shard that `text` names as in `0/4`; None for `0/1`, which is all.

    Raises:
        UsageError: It names none.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UsageError(f"{text!r} is no shard; for a quarter write 0/4, 1/4, 2/4 or 3/4")
    return Shard(int(index), int(count)) if int(count) > 1 else None

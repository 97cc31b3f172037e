"""How long and how finely a benchmark measures."""

import math

import msgspec

from qbench.benchmarking.stats import FEWEST_ROUNDS
from qbench.errors import UsageError


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long and how finely to measure.

    Attributes:
        half_width: Every ratio's 95 % interval shall be at most this wide to each side, relative.
        min_rounds: Rounds before the intervals are first looked at.
        min_sittings: Sittings before that, where candidates are loaded anew. After few, intervals
            are narrow by luck too often: stopping then excludes 1 for identical candidates in 8 %
            of simulated measurements from three sittings on, and in 5 to 6 % from eight on.
        max_rounds: Cap on the rounds.
        max_seconds: Cap on the time of rounds and of loading anew, for each group that is timed
            together and not for a run; `FEWEST_ROUNDS` are done whatever they take.
        block_seconds: A block lasts at least this long.
        warmup_seconds: Cap on one candidate's warm-up; three windows are done whatever they take.
        seed: Seed of the order within rounds and of the bootstrap.

    Raises:
        UsageError: The rounds cannot hold an interval, or a width or time is not positive and
            finite; the warm-up may take none.
    """

    half_width: float = 0.01
    min_rounds: int = 20
    min_sittings: int = 8
    max_rounds: int = 1000
    max_seconds: float = 60.0
    block_seconds: float = 0.02
    warmup_seconds: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not FEWEST_ROUNDS <= self.min_rounds <= self.max_rounds:
            raise UsageError(
                f"min_rounds {self.min_rounds} and max_rounds {self.max_rounds} do not fit; "
                f"use {FEWEST_ROUNDS} <= min_rounds <= max_rounds"
            )
        if not 0 < self.half_width < math.inf:
            raise UsageError(f"half_width {self.half_width} cannot be reached; use 0.01 for 1 %")
        for name in ("max_seconds", "block_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} {getattr(self, name)} is no time; use seconds above 0")
        if not 0 <= self.warmup_seconds < math.inf:
            raise UsageError(f"warmup_seconds {self.warmup_seconds} is no time; use 0 or more")


MODES = {
    "quick": Settings(half_width=0.02, min_sittings=5, max_seconds=20.0, warmup_seconds=1.0),
    "normal": Settings(),
    "strict": Settings(half_width=0.005, max_rounds=4000, max_seconds=300.0),
}
"""The settings that have a name."""

"""Which row of one run measures the same as which row of another."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qbench.benchmarking.presentation.naming import told_apart
from qbench.benchmarking.result import Row
from qbench.benchmarking.stats import aa_error
from qbench.runs.machine import machine_differences
from qbench.runs.run import Run


@dataclass(frozen=True)
class Pair:
    """Two rows that measure the same, by their index in their runs."""

    before: int
    after: int


@dataclass(frozen=True)
class Sides:
    """The two runs of a comparison.

    Attributes:
        before: The older one.
        after: The newer one.
        together: Whether both are parts of one run, whose candidates were timed interleaved.
    """

    before: Run
    after: Run
    together: bool = False

    @property
    def machine(self) -> tuple[str, ...]:
        """What differs between the machines."""
        return machine_differences(self.before.result.environment, self.after.result.environment)

    @property
    def trusted(self) -> bool:
        """Whether both runs can be trusted."""
        return self.before.result.trusted and self.after.result.trusted

    @property
    def noise(self) -> float:
        """The larger A/A error of the two, relative."""
        controls = [run.result.control for run in (self.before, self.after)]
        return max((aa_error(control) for control in controls if control is not None), default=0.0)

    @property
    def same_images(self) -> bool:
        """Whether both judged the same images, as far as is known."""
        images = [run.request and run.request.images for run in (self.before, self.after)]
        return self.together or (images[0] is not None and images[0] == images[1])

    def pairs(self) -> list[Pair]:
        """Return the rows that measure the same, in the order of the newer run.

        A run of one model is compared with a run of one model whatever their names. Folders count
        only where a run has several models of one name.
        """
        old, new = self.before.result.rows, self.after.result.rows
        names = [told_apart(Path(row.model) for row in rows) for rows in (old, new)]
        if not _by_name(*(set(of_side.values()) for of_side in names)):
            names = [dict.fromkeys(of_side, "") for of_side in names]
        places = [_place(row, names[0]) for row in old]
        left = list(range(len(places)))
        found = []
        for after, row in enumerate(new):
            place = _place(row, names[1])
            before = next((i for i in left if places[i] == place), None)
            if before is not None:
                left.remove(before)
                found.append(Pair(before, after))
        return found


def _by_name(before: set[str], after: set[str]) -> bool:
    """Return whether rows are told apart by their models' names."""
    return bool(before & after) or max(len(before), len(after)) > 1


def _place(row: Row, names: Mapping[Path, str]) -> tuple[object, ...]:
    load = (row.batch, row.threads, row.streams, row.mode, row.rate)
    return (names[Path(row.model)], row.precision, row.provider, *load)

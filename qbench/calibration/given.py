"""Ranges that another tool calibrated, in place of a calibration table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from qbench.artifacts import sha256_files
from qbench.calibration.interop import read_ranges
from qbench.calibration.ranges import Range
from qbench.calibration.statistics import TensorStatistics
from qbench.errors import CalibrationError


@dataclass(frozen=True)
class GivenRanges:
    """Ranges by tensor, without the statistics that a calibration table has.

    Attributes:
        path: The file that they were read from.
        ranges: By tensor name.
        image_size: Height and width to count the work of a dynamic model at; None for unknown.
    """

    path: Path
    ranges: Mapping[str, Range]
    image_size: tuple[int, int] | None = None

    @property
    def statistics(self) -> dict[str, TensorStatistics]:
        """Return those of no tensor."""
        return {}

    def __contains__(self, tensor: str) -> bool:
        return tensor in self.ranges

    @cached_property
    def sha256(self) -> str:
        """Identity of the ranges: the hash of their file."""
        return sha256_files([self.path])

    def check_model(self, sha256: str, name: str) -> None:
        """Accept any model: the file names none, but see `check_tensors`."""

    def check_tensors(self, wanted: Sequence[str], missing: Sequence[str]) -> None:
        """Make sure that there is a range for every tensor.

        Args:
            wanted: Tensors that need one.
            missing: Those of them that have none.

        Raises:
            CalibrationError: One is missing; where more than half are, names differ altogether.
        """
        if not missing:
            return
        if 2 * len(missing) > len(wanted):
            raise CalibrationError(
                f"{self.path} has ranges for {len(wanted) - len(missing)} of the {len(wanted)} "
                f"tensors that are quantized and lacks {missing[0]!r}: its names come from another "
                "graph; use the one that it was calibrated on, or `qbench calibrate`"
            )
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CalibrationError(
            f"{self.path} lacks tensor {missing[0]!r}, which is quantized{more}; leave what reads "
            "it float (--exclude), or use `qbench calibrate`"
        )


def load_ranges(path: Path | str, image_size: tuple[int, int] | None = None) -> GivenRanges:
    """Read a TensorRT calibration cache, or ONNX Runtime's calibration JSON.

    Raises:
        CalibrationError: The file cannot be read, or is neither.
    """
    path = Path(path)
    return GivenRanges(path, read_ranges(path), image_size)

"""What to tell a compiler that places INT8 by itself: the ranges of a calibration."""

from qbench.calibration.given import GivenRanges
from qbench.calibration.interop import tensorrt_cache_from_ranges, tensorrt_cache_from_table
from qbench.calibration.table import CalibrationTable
from qbench.engines.implicit import CALIBRATORS
from qbench.engines.protocol import ImplicitInt8
from qbench.errors import UsageError


def implicit_int8(table: CalibrationTable | GivenRanges, calibrator: str) -> ImplicitInt8:
    """Return the order to place INT8 by the ranges of `table`.

    Args:
        table: A calibration table, of which the calibrator's namesake chooses ranges, or ranges.
        calibrator: A key of `CALIBRATORS`.

    Raises:
        UsageError: The calibrator is unknown.
    """
    if calibrator not in CALIBRATORS:
        raise UsageError(f"unknown calibrator {calibrator!r}; choose from {', '.join(CALIBRATORS)}")
    if isinstance(table, GivenRanges):
        return ImplicitInt8(calibrator, tensorrt_cache_from_ranges(dict(table.ranges)))
    return ImplicitInt8(calibrator, tensorrt_cache_from_table(table, calibrator))

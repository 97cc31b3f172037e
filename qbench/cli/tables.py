"""Get the calibration table that a command needs, with a progress bar where it has to be made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qbench.errors import UsageError

if TYPE_CHECKING:
    from qbench.calibration.calibrate import DataChoice
    from qbench.calibration.table import CalibrationTable
    from qbench.model.load import Model


def table_for(model: Model, given: Path | None, choice: DataChoice | None) -> CalibrationTable:
    """Return the table at `given`, else one calibrated on `choice`, else the one in `calibration/`.

    Raises:
        UsageError: Both a table and data are given.
        CalibrationError: There is none, or it was made from another model.
        DataError: The data cannot be used.
    """
    from qbench.calibration.calibrate import obtain_table
    from qbench.calibration.table import load_table
    from qbench.cli.render import progress
    from qbench.quantization.quantize import TABLES

    if given is not None and choice is not None:
        raise UsageError("--table and --data exclude each other; drop one")
    if given is not None:
        return load_table(given)
    with progress("calibrating", "image") as report:
        return obtain_table(model, TABLES, choice, on_progress=report)

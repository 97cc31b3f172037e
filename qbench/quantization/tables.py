"""Which calibration table a precision takes."""

import logging
from collections.abc import Iterable
from pathlib import Path

from qbench.calibration.calibrate import load_found_table
from qbench.calibration.given import GivenRanges
from qbench.calibration.table import CalibrationTable, find_table, load_table
from qbench.errors import CalibrationError, UsageError
from qbench.model.load import Model
from qbench.quantization.options import MAY_TAKE_TABLE, NEED_TABLE

logger = logging.getLogger(__name__)

TABLES = Path("calibration")
"""Folder of calibration tables, below the current one."""


def table_if_used(
    model: Model, precision: str, table: CalibrationTable | GivenRanges | Path | str | None
) -> CalibrationTable | GivenRanges | None:
    """Return the table that `precision` takes: one is needed, may help, or has no use.

    One that may help is left alone where it is damaged.

    Raises:
        UsageError: Ranges are given, which serve INT8 alone.
        ModelError: The model is quantized already.
        CalibrationError: There is no table where one is needed, or it is damaged.
    """
    if isinstance(table, GivenRanges):
        if precision != "int8":
            raise UsageError(f"ranges from {table.path} serve --int8 alone, not --{precision}")
        return table
    if precision in NEED_TABLE or (precision == "fp16" and table is not None):
        return load_or_find_table(model, table)
    if precision != "fp16" or find_table(TABLES, model.sha256) is None:
        return None
    try:
        return load_found_table(model, TABLES)
    except CalibrationError as error:
        logger.warning("FP16 does without a calibration table: %s", error)
        return None


def table_for(
    model: Model, precisions: Iterable[str], table: CalibrationTable | None
) -> CalibrationTable | None:
    """Return the table that any of `precisions` takes; None where none does.

    Raises:
        ModelError: The model is quantized already.
        CalibrationError: There is no table where one is needed, or it is damaged.
    """
    taking = sorted(MAY_TAKE_TABLE.intersection(precisions), key=lambda one: one not in NEED_TABLE)
    found = table_if_used(model, taking[0], table) if taking else None
    assert not isinstance(found, GivenRanges)  # none were given
    return found


def load_or_find_table(
    model: Model, table: CalibrationTable | Path | str | None
) -> CalibrationTable:
    """Return `table`, read where it is a path, or the one in `calibration/` where it is None.

    Raises:
        ModelError: The model is quantized already.
        CalibrationError: There is no table, or it is damaged.
    """
    if table is None:
        return load_found_table(model, TABLES)
    return table if isinstance(table, CalibrationTable) else load_table(table)

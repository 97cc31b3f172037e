"""The samples that a calibration table was made from, where they still are."""

import logging
from pathlib import Path

from qbench.calibration.calibrate import DataChoice, open_choice
from qbench.calibration.table import CalibrationTable
from qbench.data.samples import Sample
from qbench.errors import DataError
from qbench.model.load import Model

logger = logging.getLogger(__name__)


def samples_of(model: Model, table: CalibrationTable, count: int) -> list[Sample]:
    """Return `count` of the samples of a table, evenly spaced; none where they are gone."""
    header = table.header
    choice = DataChoice(Path(header.data.source), header.recipe, header.image_size, count)
    try:
        _, source = open_choice(model, choice)
        return [source.load(index) for index in range(len(source))]
    except DataError as error:
        logger.warning("the samples of the calibration table cannot be looked at: %s", error)
        return []

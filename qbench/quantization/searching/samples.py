"""The samples that a calibration table was made from, where they still are."""

import logging

from qbench.calibration.table import CalibrationTable
from qbench.data.choice import DataChoice, open_choice
from qbench.data.samples import Sample, Source, subset, without
from qbench.errors import DataError
from qbench.model.load import Model

logger = logging.getLogger(__name__)


def samples_of(model: Model, table: CalibrationTable, count: int) -> list[Sample]:
    """Return `count` of the samples of a table, evenly spaced; none where they are gone.

    Others stand in for those that calibration skipped. What cannot be read any more is left out.
    """
    header = table.header
    choice = DataChoice(table.source, header.recipe, header.image_size)
    try:
        _, source = open_choice(model, choice)
    except DataError as error:
        logger.warning(
            "the samples of the calibration table cannot be looked at, so that nothing is judged "
            "by the model's output: %s",
            error,
        )
        return []
    return _readable(subset(without(source, header.data.skipped), count))


def _readable(source: Source) -> list[Sample]:
    found, errors = [], []
    for index in range(len(source)):
        try:
            found.append(source.load(index))
        except DataError as error:
            errors.append(error)
    if errors:
        logger.warning("some samples of the calibration table cannot be read: %s", errors[0])
    return found

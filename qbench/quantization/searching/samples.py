"""The samples that a calibration table was made from, where they still are."""

import logging

from qbench.calibration.table import CalibrationTable
from qbench.data.choice import DataChoice, open_choice
from qbench.data.samples import Sample, Source, subset, without
from qbench.errors import DataError
from qbench.model.load import Model

logger = logging.getLogger(__name__)


def samples_of(
    model: Model, table: CalibrationTable, count: int, *, is_checked: bool = False
) -> list[Sample]:
    """Return `count` of the samples of a table, evenly spaced; none where they are gone.

    Others stand in for those that calibration skipped. What cannot be read any more is left out.

    Args:
        model: The float model.
        table: Says where its samples are.
        count: How many to return.
        is_checked: Whether a search has told already if they have changed, by hashing them all.
    """
    header = table.header
    choice = DataChoice(table.source, header.recipe, header.image_size)
    try:
        _, source = open_choice(model.path, model.inputs, choice)
    except DataError as error:
        logger.warning(
            "the samples of the calibration table cannot be looked at, so that nothing is judged "
            "by the model's output: %s",
            error,
        )
        return []
    if not is_checked:
        _warn_of_others(source, table)
    return _readable(subset(without(source, header.data.skipped), count))


def _warn_of_others(source: Source, table: CalibrationTable) -> None:
    """Say where samples are not those of the table: another folder of its name, or a changed one.

    They are looked at all the same, since more images of the same kind, which are the likely case,
    judge as well. What a shard knows does not tell which samples all of them had.
    """
    data = table.header.data
    calibrated = subset(source, max(1, data.images + len(data.skipped)))
    if table.header.shard is None and calibrated.fingerprint() != data.sha256:
        logger.warning(
            "%s no longer holds what the calibration table was made from; if it holds another kind "
            "of images, calibrate again",
            table.source,
        )


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

"""What to tell a compiler that places INT8 by itself: ranges, or images to find them on."""

from collections.abc import Sequence
from pathlib import Path

from qbench.calibration.given import GivenRanges
from qbench.calibration.interop import tensorrt_cache_from_ranges, tensorrt_cache_from_table
from qbench.calibration.table import CalibrationTable
from qbench.data.choice import DataChoice, open_choice
from qbench.engines.compiling.implicit import CALIBRATORS
from qbench.engines.compiling.protocol import CalibrationImages, FedInput, ImplicitInt8
from qbench.engines.profiles import ShapeProfile, shapes_of
from qbench.errors import UsageError
from qbench.model.load import Model
from qbench.model.spec import TensorSpec


def implicit_int8(table: CalibrationTable | GivenRanges, calibrator: str) -> ImplicitInt8:
    """Return the order to place INT8 by the ranges of `table`.

    Args:
        table: A calibration table, of which the calibrator's namesake chooses ranges, or ranges.
        calibrator: A key of `CALIBRATORS`.

    Raises:
        UsageError: The calibrator is unknown.
    """
    _check(calibrator)
    if isinstance(table, GivenRanges):
        return ImplicitInt8(calibrator, tensorrt_cache_from_ranges(dict(table.ranges)))
    return ImplicitInt8(calibrator, tensorrt_cache_from_table(table, calibrator))


def implicit_on_images(
    model: Model, choice: DataChoice, calibrator: str, profiles: Sequence[ShapeProfile]
) -> ImplicitInt8:
    """Return the order to place INT8 by what the compiler's own calibrator sees of images.

    Args:
        model: The float model.
        choice: The images.
        calibrator: A key of `CALIBRATORS`.
        profiles: Those of the build; the first says the shapes that the calibrator runs on.

    Raises:
        UsageError: The calibrator is unknown.
        DataError: The images cannot be read, or do not fit the model.
    """
    _check(calibrator)
    shapes = shapes_of(model.inputs, profiles[0] if profiles else None)
    inputs = tuple(TensorSpec(s.name, shapes[s.name].opt, s.dtype) for s in model.inputs)
    recipe, _ = open_choice(model.path, inputs, choice)
    fed = tuple(FedInput(s.name, shapes[s.name].opt, s.dtype.name) for s in inputs)
    images = CalibrationImages(Path(choice.path).absolute(), recipe, choice.limit, fed)
    return ImplicitInt8(calibrator, images=images)


def _check(calibrator: str) -> None:
    if calibrator not in CALIBRATORS:
        raise UsageError(f"unknown calibrator {calibrator!r}; choose from {', '.join(CALIBRATORS)}")

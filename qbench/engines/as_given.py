"""Models that have a precision of their own already, and are built as they are."""

from typing import NoReturn

from qbench.errors import ModelError
from qbench.model.load import Model
from qbench.placement.targets import check_computes_in_float32, half_precision
from qbench.quantization.options import Options


def precision_for(model: Model, precision: str | None) -> str:
    """Return the precision that is asked for; of None, the one that the model has, else INT8."""
    return precision or (not model.is_quantized and half_precision(model)) or "int8"


def is_as_given(model: Model, precision: str) -> bool:
    """Return whether a model has the precision already, or another that is not to be changed."""
    return model.is_quantized or half_precision(model) == precision


def what_it_has(model: Model) -> str:
    """Return the words for the precision of a model that has one of its own."""
    if model.is_quantized:
        return "is quantized already"
    return f"computes in {half_precision(model)} already"


def check_precision(
    model: Model, precision: str, calibrator: str | None, quantization: Options | None
) -> None:
    """Make sure that a model can have the precision, and that none is to be written over its own.

    Raises:
        ModelError: It has another one, or is to be calibrated or written in another way.
    """
    if not is_as_given(model, precision):
        if precision != "fp32":
            _check_in_float32(model)
        return
    excluded = getattr(quantization, "exclude", ())
    if model.is_quantized and precision != "int8":
        _refuse(model, f"--{precision}")
    if calibrator is not None:
        _refuse(model, "--legacy-implicit")
    if excluded:
        _refuse(model, f"--exclude {excluded[0]}")
    if not getattr(quantization, "keep_io", True):
        _refuse(model, "--no-keep-io")


def check_calibrates(model: Model, precision: str, *calibrations: object) -> None:
    """Make sure that nothing is given to calibrate a model with that is built as it is.

    Raises:
        ModelError: Something is.
    """
    if is_as_given(model, precision) and any(given is not None for given in calibrations):
        _refuse(model, "the calibration")


def _refuse(model: Model, what: str) -> NoReturn:
    raise ModelError(
        f"{model.path} {what_it_has(model)}, and is built as it is; leave {what} out, or give the "
        "float model"
    )


def _check_in_float32(model: Model) -> None:
    """Make sure that a precision is asked for of a model that has none of its own yet."""
    try:
        check_computes_in_float32(model, alone=False)
    except ModelError as error:
        has = half_precision(model) or "fp32"
        raise ModelError(f"{error}, or build it as it is with --{has}") from error

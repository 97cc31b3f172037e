"""Make sure that outputs hold numbers before they are judged."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.errors import ModelError

WHOSE_FAULT = (
    "compare with fp32: where that gives the same, the model is at fault, else the precision is "
    "too low for it"
)
"""What to do about outputs that are no numbers."""


def check_numbers(output: NDArray[Any], name: str, sample: str) -> None:
    """Make sure that an output, of any shape, holds no NaN.

    Args:
        output: What the model gave.
        name: Of the output.
        sample: Name of the sample that it was given for.

    Raises:
        ModelError: It holds one.
    """
    if np.isnan(output).any():
        raise ModelError(f"output {name!r} holds NaN for {sample}; {WHOSE_FAULT}")

"""Names, shapes and element types of a model's inputs and outputs."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and element type of a model input or output.

    A dimension is an int where it is fixed, a str where it is named, None where it is unknown.
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: np.dtype[Any]

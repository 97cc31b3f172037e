"""Load the model that a command works on."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qbench.model.load import Model


def load_model(path: Path) -> Model:
    """Load a model that is needed for as long as the command runs.

    So are the libraries that were loaded before. Python's garbage collector would look through all
    of them again and again, which took a seventh of the time to quantize a small model, and leaves
    them out from now on. Only a command may say so, which has the process to itself.

    Raises:
        ModelError: See `model.load.load`.
    """
    from qbench.model.load import load

    model = load(path)
    gc.freeze()
    return model

"""What every runner owes to those who use it after it was closed."""

import numpy as np
import pytest
from numpy.typing import NDArray

from qbench.errors import ModelError
from qbench.runtimes.base import Runner


def check_closed(runner: Runner, feeds: dict[str, NDArray[np.float32]], use: str) -> None:
    """Close a runner; `use` of it must say so, and a call bound before must go on."""
    call = runner.bind(feeds)
    runner.run(feeds)
    runner.close()
    with pytest.raises(ModelError, match="the model is closed; open it again"):
        getattr(runner, use)(feeds)
    call()  # which keeps what it needs alive

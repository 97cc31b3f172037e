"""Where ONNX Runtime spends its time on a CPU, whatever types operators compute in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from qbench.runtimes.ort import profile_file


def time_shares(
    model: Path, feeds: Mapping[str, NDArray[Any]], *, threads: int = 0, runs: int = 10
) -> dict[str, float]:
    """Return the share of the CPU provider's time that each operator takes, largest first.

    Operators are those of the optimized graph, such as QLinearConv.

    Raises:
        ModelError: ONNX Runtime refuses the model.
    """
    shares: dict[str, float] = {}
    for part in profile_file(model, feeds, threads=threads, runs=runs):
        shares[part.operator] = shares.get(part.operator, 0.0) + part.share
    return dict(sorted(shares.items(), key=lambda item: -item[1]))

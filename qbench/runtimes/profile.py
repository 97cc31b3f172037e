"""Where ONNX Runtime spends its time."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from qbench.runtimes.ort import create_session, session_options

_KERNEL = "_kernel_time"


class _Event(msgspec.Struct):
    """What one kernel of one run took, in microseconds; other events have no operator."""

    name: str
    dur: int = 0
    args: dict[str, Any] = msgspec.field(default_factory=dict)


def time_shares(
    model: Path, feeds: Mapping[str, NDArray[Any]], *, threads: int = 0, runs: int = 10
) -> dict[str, float]:
    """Return the share of the CPU provider's time that each operator takes, largest first.

    Operators are those of the optimized graph, such as QLinearConv.

    Raises:
        ModelError: ONNX Runtime refuses the model.
    """
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = create_session(model, "cpu", options)
        for _ in range(runs):
            session.run(None, dict(feeds))
        written = Path(session.end_profiling()).read_bytes()
    times: Counter[str] = Counter()
    for event in msgspec.json.decode(written, type=list[_Event]):
        if event.name.endswith(_KERNEL):
            times[event.args["op_name"]] += event.dur
    total = times.total()
    return {operator: time / total for operator, time in times.most_common()} if total else {}

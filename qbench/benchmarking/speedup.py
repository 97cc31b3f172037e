"""Whether INT8 pays on this CPU, and why not where it does not."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from qbench.benchmarking.stats import Interval, Verdict
from qbench.benchmarking.timing.schedule import measure
from qbench.benchmarking.timing.settings import Settings
from qbench.formatting import percent
from qbench.model.graph import INTEGER_PREFIXES
from qbench.placement.cpu import ELEMENTWISE
from qbench.runtimes.base import OperatorTime
from qbench.runtimes.cpu import adds_in_32_bits, read_cpuinfo
from qbench.runtimes.ort.runner import OrtRunner, profile_file

GLANCE = Settings(half_width=0.05, max_seconds=2.0, warmup_seconds=0.3)
"""Enough to tell faster from slower; `qbench bench` measures."""

_WORTH_NAMING = 0.1
"""Share of the time from which a cause is named."""

_FLOAT_COMPUTE = ("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul")
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
_LAYOUT = ("Transpose", "ReorderInput", "ReorderOutput")

_CAUSES: dict[str, tuple[str, ...]] = {
    "Conv, Gemm or MatMul that stay float": _FLOAT_COMPUTE,
    "conversions between integers and floats": _CONVERSIONS,
    "changes of layout": _LAYOUT,
    "integer elementwise operators, which gain little": tuple(
        f"QLinear{operator}" for operator in sorted(ELEMENTWISE)
    ),
}
"""What keeps INT8 from being fast, and the operators of the optimized graph that show it."""


class Speedup(msgspec.Struct, frozen=True):
    """How fast INT8 is on this CPU.

    Attributes:
        ratio: Time of the float model / time of the quantized one, so that above 1 is faster.
        verdict: See `stats.verdict`.
        reasons: What the quantized model's time goes into, unless it is faster.
    """

    ratio: Interval
    verdict: Verdict
    reasons: tuple[str, ...]


def speedup_of(
    original: Path,
    quantized: Path,
    feeds: Mapping[str, NDArray[Any]],
    *,
    threads: int = 0,
    settings: Settings | None = None,
) -> Speedup:
    """Time a quantized model against the float one on the CPU provider, in interleaved rounds.

    Args:
        original: The float ONNX file, the baseline.
        quantized: What was made of it.
        feeds: One sample.
        threads: Intra-op threads; 0 leaves them to the runtime.
        settings: How long and how finely to measure; None for `GLANCE`.

    Raises:
        ModelError: ONNX Runtime refuses a model.
    """
    runners = (OrtRunner(path, threads=threads) for path in (original, quantized))
    measured = measure([runner.bind(feeds) for runner in runners], settings or GLANCE)
    verdict = measured.verdicts[1]
    reasons = () if verdict == "faster" else slow_parts(quantized, feeds, threads=threads)
    return Speedup(measured.ratios[1], verdict, reasons)


def slow_parts(
    quantized: Path, feeds: Mapping[str, NDArray[Any]], *, threads: int = 0
) -> tuple[str, ...]:
    """Return, one line each, what keeps a quantized model from being fast on this CPU.

    Raises:
        ModelError: ONNX Runtime refuses the model.
    """
    return reasons_of(by_operator(profile_file(quantized, feeds, threads=threads)))


def reasons_of(shares: Mapping[str, float]) -> tuple[str, ...]:
    """Return what `slow_parts` does, from the share of time that each operator takes."""
    spent = {
        cause: sum(shares.get(operator, 0.0) for operator in operators)
        for cause, operators in _CAUSES.items()
    }
    known = {operator for operators in _CAUSES.values() for operator in operators}
    integer = {operator for operator in shares if operator.startswith(INTEGER_PREFIXES)}
    spent |= {name: share for name, share in shares.items() if name not in known | integer}
    lines = [
        f"{percent(share)} of INT8's time goes into {cause}"
        for cause, share in sorted(spent.items(), key=lambda item: -item[1])
        if share >= _WORTH_NAMING
    ]
    if not integer:
        return ("no operator runs on integers here", *lines)
    if not adds_in_32_bits(read_cpuinfo()):
        lines.append("this CPU has no VNNI, so its integer products are little faster than float")
    return tuple(lines)


def by_operator(profile: Iterable[OperatorTime]) -> dict[str, float]:
    """Return the share of time that each operator takes, of whatever type, largest first."""
    found: dict[str, float] = defaultdict(float)
    for part in profile:
        found[part.operator] += part.share
    return dict(sorted(found.items(), key=lambda item: -item[1]))

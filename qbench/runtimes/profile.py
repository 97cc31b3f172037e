"""What takes the time of a model: the words of each runtime, brought to one form."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from qbench.runtimes.base import OperatorTime
from qbench.runtimes.element_types import type_in

Times = Counter[tuple[str, str | None]]
"""Time by operator and type, in any unit."""

_KERNEL = "_kernel_time"

_QUANTIZES_INSIDE = "DynamicQuantize"
"""Start of the names of operators that take and give floats, and multiply integers."""


class _Event(msgspec.Struct):
    """What one kernel of one run took, in microseconds; other events have no operator."""

    name: str
    dur: int = 0
    args: dict[str, Any] = msgspec.field(default_factory=dict)


def shares(times: Times) -> tuple[OperatorTime, ...]:
    """Return the share of each operator and type, largest first; nothing where no time passed."""
    total = times.total()
    if not total:
        return ()
    return tuple(OperatorTime(*key, time / total) for key, time in times.most_common() if time)


def computed_in(text: str) -> str | None:
    """Return what computing in the type is called that a runtime's text names."""
    found = type_in(text)
    return found.computed if found else None


def times_from_ort(document: bytes) -> Times:
    """Read the profile that ONNX Runtime writes, JSON."""
    times: Times = Counter()
    for event in msgspec.json.decode(document, type=list[_Event]):
        if event.name.endswith(_KERNEL):
            operator: str = event.args["op_name"]
            times[operator, _type_of_kernel(operator, event.args)] += event.dur
    return times


def _type_of_kernel(operator: str, args: dict[str, Any]) -> str | None:
    """Return int8 where a kernel takes such numbers first, else what it gives."""
    taken, given = (_types(args.get(f"{side}_type_shape", ())) for side in ("input", "output"))
    if operator.startswith(_QUANTIZES_INSIDE) or taken[:1] == ["int8"]:
        return "int8"
    return next(iter(given or taken), None)


def _types(tensors: Iterable[dict[str, Any]]) -> list[str | None]:
    return [computed_in(word) for tensor in tensors for word in tensor]

"""What takes the time of a model: the words of each runtime, brought to one form."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from qbench.runtimes.base import OperatorTime

Times = Counter[tuple[str, str | None]]
"""Time by operator and type, in any unit."""

_KERNEL = "_kernel_time"

_TYPES = {
    "int8": ("int8", "uint8", "i8", "u8"),
    "int4": ("int4", "uint4", "i4", "u4"),
    "fp8": ("fp8", "f8e4m3", "float8e4m3fn"),
    "fp4": ("fp4", "f4e2m1"),
    "fp16": ("fp16", "f16", "half", "float16"),
    "bf16": ("bf16", "bfloat16"),
    "fp32": ("fp32", "f32", "float"),
    "fp64": ("fp64", "f64", "double"),
    "int32": ("int32", "i32"),
    "int64": ("int64", "i64"),
    "bool": ("bool", "boolean"),
}
"""The words of ONNX Runtime, OpenVINO and TensorRT for each type."""

_BY_WORD = {word: name for name, words in _TYPES.items() for word in words}
_WORD = re.compile(r"[a-z]+[a-z0-9]*")

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


def type_in(text: str) -> str | None:
    """Return the type that a text such as `Row major Int8 format` or `jit_avx2_FP32` names."""
    words = _WORD.findall(text.lower())
    return next((_BY_WORD[word] for word in words if word in _BY_WORD), None)


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
    return [type_in(word) for tensor in tensors for word in tensor]

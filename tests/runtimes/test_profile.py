import json
from collections import Counter
from typing import Any

import pytest

from qbench.runtimes.base import OperatorTime
from qbench.runtimes.profile import computed_in, shares, times_from_ort


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("float", "fp32"),
        ("uint8", "int8"),
        ("uint16", "int16"),
        ("bfloat16", "bf16"),
        ("I8", "int8"),
        ("boolean", "bool"),
        ("Half", "fp16"),
        ("Row major Int8 format", "int8"),
        ("Channel major FP32 format where channel % 4 == 0", "fp32"),
        ("Four wide channel vectorized row major Int8 format", "int8"),
        ("undef", None),
        ("", None),
    ],
)
def test_types_in_the_words_of_the_runtimes(text: str, found: str | None) -> None:
    assert computed_in(text) == found


def test_shares_are_largest_first_without_what_took_no_time() -> None:
    times = Counter({("Relu", None): 0, ("Conv", "fp32"): 1, ("Conv", "int8"): 3})
    assert shares(times) == (OperatorTime("Conv", "int8", 0.75), OperatorTime("Conv", "fp32", 0.25))
    assert shares(Counter()) == ()


def event(operator: str, taken: list[str], given: list[str], name: str = "n_kernel_time") -> Any:
    shapes = {"input": taken, "output": given}
    types = {f"{side}_type_shape": [{t: [1]} for t in found] for side, found in shapes.items()}
    return {"name": name, "dur": 2, "args": {"op_name": operator, **types}}


@pytest.mark.parametrize(
    ("operator", "taken", "given", "found"),
    [
        ("FusedConv", ["float", "float"], ["float"], "fp32"),
        ("QLinearConv", ["uint8", "float", "uint8", "int8"], ["uint8"], "int8"),
        ("QLinearConcat", ["float", "uint8", "uint8"], ["uint8"], "int8"),
        ("MatMulIntegerToFloat", ["uint8", "int8", "float"], ["float"], "int8"),
        ("DynamicQuantizeMatMul", ["float", "int8", "float"], ["float"], "int8"),
        ("MatMulNBits", ["float16", "uint8", "float16"], ["float16"], "fp16"),
        ("Cast", ["float"], ["float16"], "fp16"),
        ("Loop", [], [], None),
    ],
)
def test_kernels_of_onnx_runtime_compute_in(
    operator: str, taken: list[str], given: list[str], found: str | None
) -> None:
    session = {"name": "session_initialization", "dur": 100, "args": {}}
    fence = event(operator, taken, given, "n_fence_before")
    document = json.dumps([session, fence, event(operator, taken, given)]).encode()
    assert times_from_ort(document) == {(operator, found): 2}

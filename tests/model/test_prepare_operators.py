"""Prepare the examples that ONNX gives for its operators: tiny legal graphs of all kinds."""

import logging
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any
from zlib import crc32

import graphs
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from qbench.model.prepare import prepare
from qbench.quantization.precisions.half import to_half

_BIASED = "test_attention_4d_with_past_and_present_qk_matmul_bias"
Example = tuple[onnx.ModelProto, graphs.Feeds]

ONE_OF = 4
"""One example in so many is run, for there are two thousand."""

NOT_THE_SAME = {
    f"{_BIASED}_3d_mask_causal": "ONNX Runtime differs from ONNX",
    f"{_BIASED}_4d_mask_causal": "ONNX Runtime differs from ONNX",
    "test_maxunpool_export_with_output_shape": "ONNX Runtime differs from ONNX",
    "test_resize_downsample_scales_cubic_align_corners": "ONNX Runtime differs from ONNX",
    "test_resize_downsample_scales_linear_align_corners": "ONNX Runtime differs from ONNX",
    "test_scan_sum": "ONNX's converter forgets the batch axis that Scan had in opset 8",
}
NOT_IN_HALF = {
    _BIASED: "a mask of -3e38 saturates",
    "test_scatter": "ONNX Runtime cannot reduce FP16",
}


@cache
def examples() -> dict[str, Example]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some overflow on purpose
        cases = collect_testcases(None)
    found = {}
    for case in cases:
        arrays = case.data_sets[0][0]
        is_taken = crc32(case.name.encode()) % ONE_OF == 0 and case.name not in NOT_THE_SAME
        if is_taken and all(isinstance(array, np.ndarray) for array in arrays):
            names = [value.name for value in case.model.graph.input]
            found[case.name] = (case.model, dict(zip(names, arrays, strict=True)))
    return found


def as_it_is(model: onnx.ModelProto, feeds: graphs.Feeds) -> Example:
    return model, feeds


def of_constants(model: onnx.ModelProto, feeds: graphs.Feeds) -> Example:
    """The same with constants as inputs, and behind each output a node, so that all is folded."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    model.ir_version = max(model.ir_version, 8)
    graph = model.graph
    graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in feeds.items())
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))
    for output in graph.output:
        graph.node.append(helper.make_node("Identity", [output.name], [f"{output.name}_same"]))
        output.name = f"{output.name}_same"
    graph.node.append(helper.make_node("Relu", ["other"], ["other_relu"]))
    graph.output.append(helper.make_tensor_value_info("other_relu", TensorProto.FLOAT, [1]))
    return model, {"other": np.ones(1, np.float32)}


def results(model: onnx.ModelProto, feeds: graphs.Feeds) -> list[Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})


def is_same(wanted: Any, found: Any, tolerance: float) -> bool:
    if not isinstance(wanted, np.ndarray):
        return isinstance(found, type(wanted)) and len(found or ()) == len(wanted or ())
    if (wanted.shape, wanted.dtype) != (found.shape, found.dtype):
        return False
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(wanted, found))
    largest = np.abs(wanted[np.isfinite(wanted)].astype(np.float64)).max(initial=0)
    limit = tolerance if wanted.dtype != np.float16 else max(tolerance, 1e-2)
    return np.allclose(found, wanted, rtol=limit, atol=limit * max(1, largest), equal_nan=True)


def differing(
    examples: dict[str, Example],
    convert: Callable[[ir.Model], ir.Model],
    tolerance: float,
) -> tuple[list[str], int]:
    """Return the names of the examples that a conversion changes, and how many it does not."""
    changed, same = [], 0
    for name, (model, feeds) in examples.items():
        try:
            wanted = results(model, feeds)
        except Exception:  # noqa: BLE001 - ONNX Runtime does not know all of ONNX
            continue
        prepared = prepare(graphs.model_of(model)).ir
        found = results(ir.to_proto(convert(prepared)), feeds)
        if len(found) == len(wanted) and all(
            is_same(a, b, tolerance) for a, b in zip(wanted, found, strict=True)
        ):
            same += 1
        else:
            changed.append(name)
    return changed, same


@pytest.mark.parametrize("variant", [as_it_is, of_constants])
def test_every_operator_computes_the_same(
    variant: Callable[[onnx.ModelProto, graphs.Feeds], Example],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    made = {name: variant(*example) for name, example in examples().items()}
    changed, same = differing(made, lambda prepared: prepared, 1e-4)
    assert not changed
    assert same > 150


def test_every_operator_in_half_precision_computes_almost_the_same() -> None:
    fitting = {
        name: example
        for name, example in examples().items()
        if not name.startswith(tuple(NOT_IN_HALF))
    }
    changed, same = differing(fitting, lambda prepared: to_half(prepared).ir, 2e-2)
    assert not changed
    assert same > 150

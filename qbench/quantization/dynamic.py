"""INT8 with scales found at run time, for transformers on ONNX Runtime's CPU provider."""

import logging
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir
from onnxruntime.quantization import QuantType, quantize_dynamic

from qbench.errors import QuantizationError
from qbench.model.graph import (
    RECURRENT,
    add_initializer,
    constant,
    drop_unused_initializers,
    integer,
    names_in,
    unused_name,
    values_by_name,
)
from qbench.model.save import save
from qbench.placement.analysis import COMPUTE

_OPERATORS = ["MatMul", "Gemm"]
"""Convolutions are left out: ConvInteger is slower than a float Conv."""

_ENDINGS = (
    "_MatMul",
    "_Transposed",
    "_quant_scales_mul:0",
    "_quantized",
    "_quantized_cast_output",
    "_scale",
    "_zero_point",
)
"""How the tensors are called that ONNX Runtime's quantizer adds, whether or not a name is taken."""


def to_dynamic_int8(model: ir.Model, weight_bits: int) -> ir.Model:
    """Return a copy of a prepared `model` whose MatMul and Gemm with constant weights use integers.

    ONNX Runtime's own `quantize_dynamic` writes it: DynamicQuantizeLinear finds each input's range
    while the model runs, so no calibration is needed.

    Args:
        model: The prepared model.
        weight_bits: 8, or 7 where full-range weights would saturate (x86 without VNNI).

    Raises:
        QuantizationError: The model has no MatMul or Gemm with constant weights.
    """
    # It advises a preparation of its own, which has been done here.
    logging.getLogger().addFilter(_is_no_advice)
    try:
        with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
            source, output = Path(folder) / "float.onnx", Path(folder) / "dynamic.onnx"
            turned = _with_turned_weights(model)
            stand_ins = _out_of_the_way(turned.graph)
            save(turned, source)
            quantize_dynamic(
                source,
                output,
                op_types_to_quantize=_OPERATORS,
                per_channel=True,
                reduce_range=weight_bits < 8,
                weight_type=QuantType.QInt8,
            )
            quantized = ir.external_data.load_to_model(ir.load(output))
            _put_back(quantized.graph, stand_ins)
    finally:
        logging.getLogger().removeFilter(_is_no_advice)
    if not any(node.op_type == "MatMulInteger" for node in quantized.graph):
        raise QuantizationError(
            "the model has no MatMul or Gemm with constant weights; use --int8 for convolutions"
        )
    return quantized


def multiplying(graph: ir.Graph) -> dict[str, str]:
    """Return the operators of the nodes that multiply in float, by node name."""
    ops = COMPUTE | RECURRENT
    return {node.name or "": node.op_type for node in graph if node.op_type in ops}


def float_remarks(prepared: ir.Graph, kept: Mapping[str, str]) -> tuple[str, ...]:
    """Return a line that counts what stays FP32, if any: `kept`, the `multiplying` of a result."""
    if not kept:
        return ()
    floats = ", ".join(f"{count} {op_type}" for op_type, count in Counter(kept.values()).items())
    return (
        f"of {len(multiplying(prepared))} nodes that multiply these stay FP32: {floats}; with "
        "scales found at run time only MatMul and Gemm with constant weights are INT8",
    )


def _with_turned_weights(model: ir.Model) -> ir.Model:
    """Return a copy in which the weights of every Gemm are stored as [inputs, outputs].

    ONNX Runtime turns them once for each Gemm that reads them, and under whatever else does.
    """
    copy = model.clone()
    graph = copy.graph
    turned: dict[ir.Value, ir.Value] = {}
    for node in graph:
        weight = node.inputs[1] if node.op_type == "Gemm" and integer(node, "transB", 0) else None
        array = constant(weight)
        if weight is None or array is None:
            continue
        if weight not in turned:
            turned[weight] = add_initializer(graph, f"{weight.name}_turned", array.T)
        node.replace_input_with(1, turned[weight])
        del node.attributes["transB"]
    drop_unused_initializers(graph)
    return copy


def _out_of_the_way(graph: ir.Graph) -> dict[str, str]:
    """Rename the tensors that the quantizer could give a namesake; return their names by new name.

    It would take a tensor `w_scale` of the model for the scale of `w`.
    """
    taken, stand_ins = names_in(graph), {}
    for name, value in _values(graph).items():
        if name.endswith(_ENDINGS):
            value.name = unused_name(f"{name}_of_the_model", taken)
            taken.add(value.name)
            stand_ins[value.name] = name
    return stand_ins


def _put_back(graph: ir.Graph, stand_ins: Mapping[str, str]) -> None:
    """Give renamed tensors their names back, and what was added under such a name another one."""
    taken, values = names_in(graph), _values(graph)
    for name in stand_ins.values():
        if name in values:
            values[name].name = unused_name(name, taken)
            taken.add(values[name].name)
    for stand_in, name in stand_ins.items():
        if stand_in in values:  # else nothing needs it any longer
            values[stand_in].name = name


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    return values_by_name(graph) | dict(graph.initializers)


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()

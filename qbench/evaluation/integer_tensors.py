"""Dequantize what integer operators write, so that it can be held against the float model.

ONNX Runtime's quantizer calls the codes of a tensor by its name and `_quantized`. It drops a Relu
or Clip behind an integer operator, whose codes cannot leave its range and stand for what it wrote.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from qbench.model.graph import is_constant, only_user, unused_name, values_by_name
from qbench.model.load import Model
from qbench.placement.cpu import MOVES
from qbench.quantization.encodings import is_dequantize, is_integer_kernel, is_quantize

Values = Mapping[str, ir.Value]
"""The values of a graph by name."""

_SUFFIX = "_quantized"
_DROPPED = {"Clip", "Relu"}

_OUTPUT_SCALE = {
    "QGemm": 7,
    "QLinearAdd": 6,
    "QLinearAveragePool": 3,
    "QLinearConcat": 0,
    "QLinearConv": 6,
    "QLinearGlobalAveragePool": 3,
    "QLinearLeakyRelu": 3,
    "QLinearMatMul": 6,
    "QLinearMul": 6,
    "QLinearSigmoid": 3,
    "QLinearSoftmax": 3,
    "QLinearWhere": 7,
    "QuantizeLinear": 1,
}
"""Where an operator takes the scale of its output; the zero-point is the next input."""


def with_float_tensors(test: Model, reference: Model) -> Model:
    """Return `test` with a DequantizeLinear behind all codes whose scale is known.

    It writes the tensor of `reference` that the codes stand for. A model without integer operators
    is returned itself.
    """
    if not any(map(is_integer_kernel, test.ir.graph)):
        return test
    model = test.ir.clone()
    written, wanted = values_by_name(model.graph), values_by_name(reference.ir.graph)
    for node in list(model.graph):
        codes = node.outputs[0]
        parameters = _parameters(codes)
        name = _float_name(codes, written, wanted)
        if parameters and name and not any(is_dequantize(user) for user in codes.consumers()):
            output = ir.Value(name=name)
            dequantize = ir.node("DequantizeLinear", [codes, *parameters], outputs=[output])
            model.graph.insert_after(node, dequantize)
    return replace(test, ir=model)


def _parameters(codes: ir.Value) -> Sequence[ir.Value | None]:
    """Return scale and zero-point of what an integer operator wrote or only moved; or nothing."""
    node = codes.producer()
    source = node.inputs[0] if node is not None and node.inputs else None
    if node is None or source is None:
        return ()
    if node.op_type in MOVES and not node.domain:
        return _parameters(source)
    at = _OUTPUT_SCALE.get(node.op_type)
    is_weight = is_quantize(node) and is_constant(source)
    return () if at is None or is_weight else node.inputs[at : at + 2]


def _float_name(codes: ir.Value, written: Values, wanted: Values) -> str | None:
    """Return what to call the floats behind `codes`; None where the reference knows none."""
    name = (codes.name or "").removesuffix(_SUFFIX)
    if name == codes.name or name not in wanted:
        return None
    if name in written:  # its Q is all that follows it
        return unused_name(f"{name}_dequantized", written)
    reader = only_user(wanted[name])
    if reader is None or reader.op_type not in _DROPPED:
        return name
    behind = reader.outputs[0].name or ""
    return None if behind in written else behind

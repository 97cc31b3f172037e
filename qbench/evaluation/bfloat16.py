"""BF16 for ONNX Runtime's CPU provider, which has next to no kernels for it."""

import onnx_ir as ir
from onnx_ir.passes import common

from qbench.model.graph import constant
from qbench.model.passes.infer_shapes import infer_shapes

_FLOAT, _BFLOAT16 = ir.DataType.FLOAT, ir.DataType.BFLOAT16


def rounded_in_float(model: ir.Model) -> ir.Model:
    """Return a copy of `model` that computes its BF16 nodes in FP32, and rounds what they write.

    That is what hardware does, which adds up in FP32. Nodes in subgraphs are left as they are. A
    model without BF16 is returned itself.
    """
    copy = model.clone()
    infer_shapes(copy)
    values = [*copy.graph.inputs, *(value for node in copy.graph for value in node.outputs)]
    if all(value.dtype != _BFLOAT16 for value in values):
        return model
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(copy)
    for value in list(copy.graph.initializers.values()):
        array = constant(value) if value.dtype == _BFLOAT16 else None
        if array is not None:
            value.const_value = ir.tensor(array.astype("float32"), name=value.name)
            value.type = ir.TensorType(_FLOAT)
    for value in copy.graph.inputs:
        if value.dtype == _BFLOAT16:
            value.type = ir.TensorType(_FLOAT)
    for node in list(copy.graph):
        for output in node.outputs:
            if output.dtype == _BFLOAT16:
                _round(output)
    return copy


def _round(output: ir.Value) -> None:
    """Let a node write FP32, and all that read its output read what BF16 leaves of that."""
    node = output.producer()
    assert node is not None
    assert node.graph is not None
    name, output.name = output.name, f"{output.name}/unrounded"
    output.type = ir.TensorType(_FLOAT)
    if node.op_type == "Cast":
        node.attributes["to"] = ir.AttrInt64("to", _FLOAT)
    narrow = ir.val(f"{name}/bfloat16", _BFLOAT16, output.shape)
    wide = ir.val(name or "", _FLOAT, output.shape)
    output.replace_all_uses_with(wide, replace_graph_outputs=True)
    casts = (
        ir.node("Cast", [output], {"to": _BFLOAT16}, outputs=[narrow]),
        ir.node("Cast", [narrow], {"to": _FLOAT}, outputs=[wide]),
    )
    node.graph.insert_after(node, casts)

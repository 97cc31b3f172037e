"""Give a Reshape a constant shape where all that it computes is the batch size.

Exporters compute it from the sizes of other tensors, by four nodes or more each. ONNX Runtime does
away with these in float models, but not where Q/DQ nodes stand between.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from qbench.model.graph import add_initializer, constant, is_constant, static_shape

_SAME, _REST = 0, -1
"""What stands in a shape for the size of the same axis before, and for what is left."""

_Size = int | ir.SymbolicDim


def settle_reshapes(model: ir.Model) -> int:
    """Give each Reshape of the main graph a constant shape that can have one; return how many.

    Those that write an output of the model stay: the sizes of these are what the file declares.

    Postcondition: a Reshape with a computed shape writes an output of the model, or the rank of
    that is not known, or it has two unknown sizes that are not known to be those of the same axes
    before.
    """
    settled = 0
    for node in model.graph:
        if node.op_type != "Reshape" or node.domain or is_constant(node.inputs[1]):
            continue
        shape = None if node.outputs[0].is_graph_output() else _constant_shape(node)
        if shape is not None:
            name = f"{node.outputs[0].name}_shape"
            node.replace_input_with(1, add_initializer(model.graph, name, np.array(shape)))
            node.attributes.pop("allowzero", None)  # by which `_SAME` would be a size of zero
            settled += 1
    return settled


def _constant_shape(node: ir.Node) -> list[int] | None:
    """Return the sizes to reshape to, of which one may be what is left; None for more."""
    sizes = node.outputs[0].shape or _joined(node.inputs[1])
    if sizes is None or 0 in sizes:
        return None
    data = node.inputs[0]
    before = tuple(data.shape or ()) if data is not None else ()
    found = [_settled(size, before[axis : axis + 1]) for axis, size in enumerate(sizes)]
    return found if found.count(_REST) <= 1 else None


def _settled(size: _Size, before: Sequence[_Size]) -> int:
    if isinstance(size, int):
        return size
    return _SAME if size.value is not None and size in before else _REST


def _joined(shape: ir.Value | None) -> list[_Size] | None:
    """Return the sizes that a Concat joins, as far as these are constants."""
    joining = shape.producer() if shape is not None else None
    if joining is None or joining.op_type != "Concat":
        return None
    sizes: list[_Size] = []
    for piece in joining.inputs:
        array = constant(piece)
        if array is not None:
            sizes += [int(size) if size != _REST else ir.SymbolicDim(None) for size in array]
        elif piece is not None and static_shape(piece) == (1,):
            sizes.append(ir.SymbolicDim(None))
        else:
            return None
    return sizes

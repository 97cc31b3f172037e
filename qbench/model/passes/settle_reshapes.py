"""Give a Reshape a constant shape where all that it computes is the batch size.

Exporters compute it from the sizes of other tensors, by four nodes or more each. ONNX Runtime does
away with these in float models, but not where Q/DQ nodes stand between.
"""

from collections import defaultdict
from collections.abc import Collection

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
    settled, unclear = 0, _unclear_names(model.graph)
    for node in model.graph:
        if node.op_type != "Reshape" or node.domain or is_constant(node.inputs[1]):
            continue
        shape = None if node.outputs[0].is_graph_output() else _constant_shape(node, unclear)
        if shape is not None:
            name = f"{node.outputs[0].name}_shape"
            node.replace_input_with(1, add_initializer(model.graph, name, np.array(shape)))
            node.attributes.pop("allowzero", None)  # by which `_SAME` would be a size of zero
            settled += 1
    return settled


def _unclear_names(graph: ir.Graph) -> set[str]:
    """Return names that inputs give to sizes of several axes, such as `?`, which tell nothing."""
    axes: dict[str, set[int]] = defaultdict(set)
    for value in graph.inputs:
        for axis, size in enumerate(value.shape or ()):
            if isinstance(size, ir.SymbolicDim) and size.value is not None:
                axes[size.value].add(axis)
    return {name for name, places in axes.items() if len(places) > 1}


def _constant_shape(node: ir.Node, unclear: Collection[str]) -> list[int] | None:
    """Return the sizes to reshape to, of which one may be what is left; None for more."""
    sizes = node.outputs[0].shape or _joined(node.inputs[1])
    if sizes is None or 0 in sizes:
        return None
    data = node.inputs[0]
    before = tuple(data.shape or ()) if data is not None else ()
    kept = [size in before[axis : axis + 1] for axis, size in enumerate(sizes)]
    found = [
        size if isinstance(size, int) else _SAME if is_kept and _tells(size, unclear) else _REST
        for size, is_kept in zip(sizes, kept, strict=True)
    ]
    return found if found.count(_REST) <= 1 else None


def _tells(size: ir.SymbolicDim, unclear: Collection[str]) -> bool:
    """Return whether sizes are the same that have the name, or formula, of this one."""
    return size.value is not None and not any(name in size.value for name in unclear)


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

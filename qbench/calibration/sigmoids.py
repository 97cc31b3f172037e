"""Sigmoids, whose outputs need not be read: the function only grows.

In networks with SiLU a third of all activations are such outputs. Fetching them would keep ONNX
Runtime from computing Sigmoid and Mul at once, too.
"""

from collections.abc import Mapping

import onnx_ir as ir


def sigmoids_between(graph: ir.Graph, tensors: Mapping[str, int | None]) -> dict[str, str]:
    """Return the Sigmoid outputs among `tensors`, by the Sigmoid's input, which is another of them.

    Args:
        graph: The prepared graph.
        tensors: Channel axes by name. Channel sums cannot be derived, so outputs have none.
    """
    found: dict[str, str] = {}
    for node in graph:
        if node.op_type == "Sigmoid" and node.inputs[0] is not None:
            x, y = str(node.inputs[0].name), str(node.outputs[0].name)
            if x in tensors and tensors.get(y, 1) is None and x not in found.values():
                found[x] = y
    return found

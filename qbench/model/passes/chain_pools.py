"""Let large MaxPools go on from smaller ones of the same tensor (the SPP block of YOLO detectors).

YOLOv3-SPP to YOLOv5 and YOLOX take the maximum of 5 x 5, 9 x 9 and 13 x 13 values around each. That
of 9 x 9 is the maximum of 5 x 5 maxima of 5 x 5, which takes 25 comparisons instead of 81.
"""

from collections import defaultdict
from itertools import islice

import onnx_ir as ir

from qbench.model.graph import ints


def chained_pools(model: ir.Model) -> tuple[str, ...]:
    """Return the names of the MaxPool nodes that `chain_pools` would change."""
    return tuple(larger.name or "" for _, larger in _pairs(model.graph))


def chain_pools(model: ir.Model) -> int:
    """Let each MaxPool read the next smaller one of the same tensor; return how many are changed.

    ``max over k + l - 1 = max over l of max over k``, along every axis. With a stride of 1 and pads
    of half a window this holds at borders, too: there both are maxima of what is inside.

    Postcondition: no two MaxPool of windows of odd size, a stride of 1 and pads that keep the size
    read the same tensor, of which one window lies within the other.
    """
    pairs = _pairs(model.graph)
    for smaller, larger in reversed(pairs):
        sizes = zip(_window(smaller), _window(larger), strict=True)
        window = [large - small + 1 for small, large in sizes]
        larger.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", window)
        larger.attributes["pads"] = ir.AttrInt64s("pads", [size // 2 for size in window] * 2)
        larger.replace_input_with(0, smaller.outputs[0])
    if pairs:
        model.graph.sort()
    return len(pairs)


def _pairs(graph: ir.Graph) -> list[tuple[ir.Node, ir.Node]]:
    """Return each pool with the next smaller one within its window, from the smallest on."""
    pools: dict[ir.Value, list[ir.Node]] = defaultdict(list)
    for node in graph:
        if node.op_type == "MaxPool" and node.inputs[0] is not None and _keeps_size(node):
            pools[node.inputs[0]].append(node)
    pairs = []
    for nodes in pools.values():
        ordered = sorted(nodes, key=_window)
        for at, larger in enumerate(ordered):
            within = (smaller for smaller in reversed(ordered[:at]) if _is_within(smaller, larger))
            pairs += [(smaller, larger) for smaller in islice(within, 1)]
    return pairs


def _keeps_size(pool: ir.Node) -> bool:
    """Whether a MaxPool gives for each value the maximum around it, and nothing else."""
    window = _window(pool)
    is_dense = {*ints(pool, "strides", [1]), *ints(pool, "dilations", [1])} == {1}
    is_centred = all(size % 2 for size in window)
    is_centred &= list(ints(pool, "pads", [0])) == [size // 2 for size in window] * 2
    is_explicit = pool.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    return not pool.domain and len(pool.outputs) == 1 and is_dense and is_centred and is_explicit


def _is_within(smaller: ir.Node, larger: ir.Node) -> bool:
    sizes = list(zip(_window(smaller), _window(larger), strict=True))
    return _window(smaller) != _window(larger) and all(small <= large for small, large in sizes)


def _window(pool: ir.Node) -> list[int]:
    return list(ints(pool, "kernel_shape", []))

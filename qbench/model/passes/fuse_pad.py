"""Fuse a zero Pad into the convolution after it, and drop a Pad of nothing.

A Pad between an activation and its convolution keeps both from running as one integer kernel.
"""

import onnx_ir as ir

from qbench.model.graph import constant, ints

_SPATIAL_START = 2


def fuse_pad(model: ir.Model) -> int:
    """Fuse constant zero pads of spatial axes into the Conv readers; return how many Pads vanished.

    Postcondition: no constant-mode zero Pad of spatial axes feeds nothing but the data of Conv
    nodes with explicit pads.
    """
    removed = 0
    for pad in list(model.graph):
        amounts = _zero_pad(pad)
        if amounts is not None and _absorb(pad, amounts):
            model.graph.remove(pad, safe=True)
            removed += 1
    return removed


def _zero_pad(node: ir.Node) -> list[int] | None:
    """Return begins and ends per axis (2 x rank) of a known Pad with zeros, else None."""
    if node.domain or node.op_type != "Pad" or len(node.inputs) > 3:
        return None
    if node.outputs[0].is_graph_output():
        return None
    mode = node.attributes.get("mode")
    if mode is not None and mode.as_string() != "constant":
        return None
    fill = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else 0
    amounts = constant(node.inputs[1])
    if amounts is None or fill is None or fill != 0:
        return None
    return [int(amount) for amount in amounts]


def _absorb(pad: ir.Node, amounts: list[int]) -> bool:
    """Move `amounts` into all readers of `pad`; return whether that was possible."""
    source = pad.inputs[0]
    rank = len(amounts) // 2
    begins, ends = amounts[:rank], amounts[rank:]
    if any(amounts):
        readers = pad.outputs[0].uses()
        convs = [usage.node for usage in readers if usage.idx == 0 and _takes_pads(usage.node)]
        if min(amounts) < 0 or any(begins[:_SPATIAL_START] + ends[:_SPATIAL_START]):
            return False
        if not convs or len(convs) < len(readers):
            return False
        spatial = begins[_SPATIAL_START:] + ends[_SPATIAL_START:]
        for conv in convs:
            own = ints(conv, "pads", [0] * len(spatial))
            total = [a + b for a, b in zip(own, spatial, strict=True)]
            conv.attributes["pads"] = ir.AttrInt64s("pads", total)
    assert source is not None  # Pad has a data input by its schema
    pad.outputs[0].replace_all_uses_with(source)
    return True


def _takes_pads(node: ir.Node) -> bool:
    explicit = node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    return node.op_type == "Conv" and not node.domain and explicit

"""Keep float weights float in ONNX Runtime.

Between a DequantizeLinear with one scale and a QuantizeLinear, ONNX Runtime (tried on 1.31) rounds
the weights of a float Conv, ConvTranspose or Gemm to 8 bits by itself, with one scale for all
channels; its optimizer WeightBiasQuantization does so. A depthwise convolution that was left float
to keep it exact ends up worse than in INT8. A node whose input has a scale per channel is spared.
"""

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from qbench.model.graph import add_initializer
from qbench.placement.cpu import final_output
from qbench.placement.plan import FloatNode
from qbench.quantization.encodings import dequantizer, quantizers, scale_of, zero_point_of

_ROUNDED = {"Conv", "ConvTranspose", "Gemm"}
_CHANNEL_AXIS = 1


def keep_weights_float(graph: ir.Graph, floats: Iterable[FloatNode]) -> None:
    """Let the `floats` in a Q/DQ graph for the CPU read their inputs with a scale for each channel.

    All channels have the same scale, so that no value changes. A node whose number of channels is
    unknown is left as it is.
    """
    names = {node.name for node in floats}
    for node in [node for node in graph if node.name in names and _is_rounded(node)]:
        source = node.inputs[0]
        old = dequantizer(source)
        channels = source.shape[_CHANNEL_AXIS] if source is not None and source.shape else None
        if old is not None and isinstance(channels, int):
            _dequantize_by_channel(graph, node, old, channels)


def _is_rounded(node: ir.Node) -> bool:
    return node.op_type in _ROUNDED and bool(quantizers(final_output(node)))


def _dequantize_by_channel(graph: ir.Graph, node: ir.Node, old: ir.Node, channels: int) -> None:
    scale, zero_point = scale_of(old), zero_point_of(old)
    if scale is None or scale.size > 1:
        return
    source = old.outputs[0]
    name = f"{source.name}_for_{node.name}"
    parameters = [
        add_initializer(graph, f"{name}_{kind}", np.full(channels, number, number.dtype))
        for kind, number in (("scale", scale), ("zero_point", zero_point))
    ]
    new = ir.node(
        "DequantizeLinear",
        [old.inputs[0], *parameters],
        {"axis": _CHANNEL_AXIS},
        name=f"{name}_DequantizeLinear",
        outputs=[ir.val(name, ir.DataType.FLOAT, source.shape)],
    )
    graph.insert_before(node, new)
    node.replace_input_with(0, new.outputs[0])
    if not source.uses() and not source.is_graph_output():
        graph.remove(old, safe=True)

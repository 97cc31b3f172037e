"""Export networks of the demo to ONNX."""

import io

import onnx
import torch
from torch import nn

OPSET, MAX_IR_VERSION = 17, 10


def unfused(network: nn.Module, side: int, image: str, output: str) -> onnx.ModelProto:
    """Return the network as ONNX with an open batch, without what tells the machine it was made on.

    BatchNormalization stays a node of its own, as qbench fuses it itself.

    Args:
        network: Takes images, [N, 3, side, side].
        side: Height and width of an image.
        image: Name of the input.
        output: Name of the output.
    """
    buffer = io.BytesIO()
    torch.onnx.export(
        network.eval(),
        (torch.zeros(1, 3, side, side),),
        buffer,
        dynamo=False,
        opset_version=OPSET,
        input_names=[image],
        output_names=[output],
        dynamic_axes={image: {0: "N"}, output: {0: "N"}},
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )
    exported = onnx.load_from_string(buffer.getvalue())
    exported.ir_version = min(exported.ir_version, MAX_IR_VERSION)
    exported.doc_string = ""
    del exported.metadata_props[:]
    for node in exported.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    return exported

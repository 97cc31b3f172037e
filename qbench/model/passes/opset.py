"""Raise the opset to what a precision needs."""

import onnx
import onnx_ir as ir

from qbench.errors import ModelError

MINIMUM_OPSET = 13
"""First opset whose DequantizeLinear takes one scale per channel."""

_MINIMUM_IR_VERSION = 8


def raise_opset(model: ir.Model, minimum: int) -> ir.Model:
    """Return `model` with its default-domain opset at `minimum` or above.

    Raises:
        ModelError: ONNX's version converter refuses the graph.
    """
    version = model.graph.opset_imports.get("", 0)
    if version >= minimum:
        return model
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(model), minimum)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"opset {version} cannot be raised to {minimum} ({reason}); "
            f"export the model again with opset {minimum} or later"
        ) from error
    needed = onnx.helper.find_min_ir_version_for(list(proto.opset_import), ignore_unknown=True)
    proto.ir_version = max(proto.ir_version, needed, _MINIMUM_IR_VERSION)
    return ir.from_proto(proto)

"""Which providers really load here; being compiled in or installed proves nothing."""

from collections.abc import Callable
from functools import partial

import onnx_ir as ir

from qbench.errors import QbenchError
from qbench.runtimes import openvino
from qbench.runtimes.openvino import OpenVinoRunner
from qbench.runtimes.ort import OrtRunner
from qbench.runtimes.ort_providers import PROVIDERS

_PROBE_OPSET = 17
_PROBE_IR_VERSION = 8


def probe_providers() -> dict[str, str | None]:
    """Return for each provider None where it loads a one-node model, else the reason."""
    model = ir.to_proto(_probe()).SerializeToString()
    found = {name: _problem(partial(OrtRunner, model, provider=name)) for name in PROVIDERS}
    return found | {openvino.PROVIDER: _problem(partial(OpenVinoRunner, model))}


def _problem(load: Callable[[], object]) -> str | None:
    try:
        load()
    except QbenchError as error:
        # The part behind the semicolon is the fix, and for most it names the command that asks.
        return str(error).partition(";")[0]
    return None


def _probe() -> ir.Model:
    value = ir.val("x", ir.DataType.FLOAT, [1])
    node = ir.node("Relu", [value], name="probe")
    node.outputs[0].name = "y"
    node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    node.outputs[0].shape = ir.Shape([1])
    graph = ir.Graph(
        [value], [node.outputs[0]], nodes=[node], opset_imports={"": _PROBE_OPSET}, name="probe"
    )
    return ir.Model(graph, ir_version=_PROBE_IR_VERSION)

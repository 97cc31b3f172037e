"""Which providers really load here; being compiled in or installed proves nothing."""

import re
from collections.abc import Callable, Mapping
from functools import partial

import onnx_ir as ir

from qbench.errors import QbenchError
from qbench.runtimes import openvino
from qbench.runtimes.openvino import OpenVinoRunner
from qbench.runtimes.ort.providers import PROVIDERS
from qbench.runtimes.ort.runner import OrtRunner

_PROBE_OPSET = 17
_PROBE_IR_VERSION = 8

_LIMIT = re.compile(r"max supported IR version: \d+|official support for .+ is till opset \d+")
"""What ONNX Runtime says of versions that are newer than itself."""


def probe_providers() -> dict[str, str | None]:
    """Return for each provider None where it loads a one-node model, else the reason."""
    model = _probe(_PROBE_IR_VERSION, {"": _PROBE_OPSET})
    found = {name: _problem(partial(OrtRunner, model, provider=name)) for name in PROVIDERS}
    return found | {openvino.PROVIDER: _problem(partial(OpenVinoRunner, model))}


def version_notes(model: ir.Model) -> tuple[str, ...]:
    """Return a line where ONNX Runtime is too old for a model's IR version or an opset."""
    opsets = {"": _PROBE_OPSET, **model.graph.opset_imports}
    problem = _problem(partial(OrtRunner, _probe(model.ir_version, opsets)))
    limit = _LIMIT.search(problem or "")
    if limit is None:
        return ()
    return (
        f"the installed ONNX Runtime is too old for the model ({limit[0]}); update it, or export "
        "the model for older versions",
    )


def _problem(load: Callable[[], object]) -> str | None:
    try:
        load()
    except QbenchError as error:
        # The part behind the semicolon is the fix, and for most it names the command that asks.
        return str(error).partition(";")[0]
    return None


def _probe(ir_version: int, opsets: Mapping[str, int]) -> bytes:
    value = ir.val("x", ir.DataType.FLOAT, [1])
    node = ir.node("Relu", [value], name="probe")
    node.outputs[0].name = "y"
    node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    node.outputs[0].shape = ir.Shape([1])
    graph = ir.Graph(
        [value], [node.outputs[0]], nodes=[node], opset_imports=dict(opsets), name="probe"
    )
    return ir.to_proto(ir.Model(graph, ir_version=ir_version)).SerializeToString()

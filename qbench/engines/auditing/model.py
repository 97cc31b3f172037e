"""Audit any quantized ONNX file: what the rules of a target say, and what the target made of it."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import onnx_ir as ir
import onnxruntime as ort
from msgspec.structs import replace

from qbench.artifacts import SCHEMA_VERSION
from qbench.data.synthetic import SyntheticSource
from qbench.engines.auditing.engine import EngineAudit, NodeFinding, audit, count_in
from qbench.engines.auditing.qdq import neighbours_of, node_name
from qbench.engines.auditing.requirement import check_int8_share
from qbench.engines.compiling.builder import build
from qbench.engines.compiling.protocol import BuildOptions, BuildRequest
from qbench.engines.compiling.targets import LEAST_GPU
from qbench.engines.preflight.check import graph_findings, judged_flavour
from qbench.engines.profiles import parse_shapes, profiles_for
from qbench.errors import DataError, EngineError, ModelError, UnfitError
from qbench.model.graph import INTEGER_PREFIXES
from qbench.model.load import Model, read_graph
from qbench.model.passes.infer_shapes import infer_shapes
from qbench.placement.plan import FLOAT_REASON, Plan
from qbench.placement.targets import half_precision
from qbench.placement.tensorrt import place
from qbench.quantization.audit import audit_cpu, is_compute
from qbench.quantization.encodings import (
    code_type,
    is_quantize,
    zero_point_of,
)
from qbench.quantization.linting.finding import ERROR, Finding
from qbench.quantization.linting.lint import blocking_reasons, lint, tidied
from qbench.runtimes.ort.runner import OrtRunner
from qbench.runtimes.tensorrt.flavour import find_flavour
from qbench.runtimes.tensorrt.layers import INT8, EngineLayer

_FLOAT = "Float"

_TYPES = {
    ir.DataType.BFLOAT16: "bf16",
    ir.DataType.FLOAT8E4M3FN: "fp8",
    ir.DataType.INT4: "int4",
    ir.DataType.INT8: "int8",
}
"""Types that not every GPU has, and the precisions of `LEAST_GPU`."""


class ModelAudit(msgspec.Struct, frozen=True, kw_only=True):
    """What a target makes of a quantized model.

    Attributes:
        target: `cpu` or `tensorrt`.
        runtime: What was asked, with its version; None where it is not installed.
        refusal: Why it refuses the model; None where it does not, or was not asked.
        nodes_by_dtype: Number of Conv, Gemm and MatMul nodes by operator and the type that they
            compute in; empty where no runtime could tell.
        int8_fraction: Share of these nodes that compute in INT8; None where that is unknown.
        not_int8: The others, and on `cpu` also unfused nodes of other operators.
        own_qdq: Q/DQ nodes that TensorRT runs by themselves, with the likely reason.
        findings: Rules of the target that the model breaks.
    """

    model: str
    sha256: str
    target: str
    runtime: str | None
    refusal: str | None = None
    nodes_by_dtype: dict[str, dict[str, int]] = {}
    int8_fraction: float | None = None
    not_int8: tuple[NodeFinding, ...] = ()
    own_qdq: tuple[NodeFinding, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def check_runs(self) -> None:
        """Make sure that the target runs the model as it is written.

        Raises:
            ModelError: A rule says that the target refuses it, or would compute something else; or
                ONNX Runtime refuses it.
            EngineError: TensorRT does, for a reason that no rule knows.
        """
        errors = [finding for finding in self.findings if finding.severity == ERROR]
        if errors:
            first = errors[0]
            raise ModelError(
                f"{self.model} does not suit target {self.target}: {first.node!r}: "
                f"{first.reason}; {first.fix}"
            )
        if self.refusal is not None:
            raise (EngineError if self.target == "tensorrt" else ModelError)(self.refusal)

    def check_int8(self, share: float) -> None:
        """Make sure that at least `share` of the compute nodes run in INT8.

        Raises:
            BudgetError: Fewer do.
            UnfitError: There are none, or nothing that could tell is installed.
        """
        if self.runtime is None:
            raise UnfitError(
                f"how much of {self.model} {self.target} runs in INT8 is unknown here; "
                "install TensorRT for RTX: `uv sync --extra rtx`"
            )
        name = f"{self.model} on {self.target}"
        check_int8_share(name, self.nodes_by_dtype, self.not_int8, share)


def audit_model(
    model: Model,
    target: str,
    shapes: Sequence[str] = (),
    image_size: tuple[int, int] | None = None,
) -> ModelAudit:
    """Check a quantized model against the rules of `target`, and ask the target itself.

    ONNX Runtime optimizes and runs the model; TensorRT for RTX, where it is installed, builds it.

    Args:
        model: A file with Q/DQ nodes or integer operators, made by any tool.
        target: `cpu` or `tensorrt`.
        shapes: Shapes of dynamic inputs for TensorRT, as `profiles.parse_shapes` reads them.
        image_size: Height and width for a dynamic input without a shape.

    Raises:
        ModelError: The model is not quantized, or has no file.
        UsageError: The target is unknown, or a dynamic input has no shape.
    """
    if not model.is_quantized or model.path is None:
        first = f"quantize it first: `qbench quantize {model.path} --target {target}`"
        if (half := half_precision(model)) is not None:
            first = f"it computes in {half.upper()}; quantize its FP32 export"
        raise ModelError(f"{model.path} is not quantized, so there is nothing to audit; {first}")
    findings = _judged(model) if target == "tensorrt" else lint(model.ir, target)
    base = ModelAudit(
        model=str(model.path), sha256=model.sha256, target=target, runtime=None, findings=findings
    )
    if target == "cpu":
        return _ask_cpu(base, model, image_size)
    return _ask_tensorrt(base, model, shapes, image_size)


def likely_target(graph: ir.Graph) -> str:
    """Return what a quantized model seems to be made for.

    `tensorrt` where all is int8 around 0, or FP8; integer operators ONNX Runtime alone has.
    """
    if any(node.op_type.startswith(INTEGER_PREFIXES) for node in graph):
        return "cpu"
    quantizers = [node for node in graph if is_quantize(node)]
    is_symmetric = all(
        code_type(node) == ir.DataType.FLOAT8E4M3FN
        or (code_type(node) == ir.DataType.INT8 and not zero_point_of(node).any())
        for node in quantizers
    )
    return "tensorrt" if quantizers and is_symmetric else "cpu"


def audit_tensorrt(
    model: Model,
    plan: Plan | None = None,
    shapes: Sequence[str] = (),
    image_size: tuple[int, int] | None = None,
) -> EngineAudit:
    """Build the file of a quantized model with TensorRT for RTX, and say what became of its nodes.

    Args:
        model: A file with Q/DQ nodes.
        plan: What was planned, which knows best why nodes are float.
        shapes: Shapes of dynamic inputs, as `profiles.parse_shapes` reads them.
        image_size: Height and width for a dynamic input without a shape.

    Raises:
        UnfitError: TensorRT for RTX is not installed.
        EngineError: It refuses the model.
        UsageError: A dynamic input has no shape.
    """
    assert model.path is not None  # the compiler reads files
    profiles, _ = profiles_for(model.inputs, [parse_shapes(shapes)], image_size)
    with tempfile.TemporaryDirectory(prefix="qbench-") as folder:
        request = BuildRequest(
            onnx=model.path,
            output=Path(folder) / "model.engine",
            log=Path(folder) / "model.log",
            flavour=find_flavour("rtx"),
            profiles=profiles,
            options=BuildOptions(least_gpu=least_gpu_of(model.ir.graph)),
        )
        try:
            layers = build(request).layers
        except EngineError as error:
            # The log that it points to is gone with the folder.
            raise EngineError(str(error).partition("; see ")[0]) from error
    return audit_file(layers, model.path, plan)


def least_gpu_of(graph: ir.Graph) -> int:
    """Return the least compute capability that knows the types of a graph; 0 for any."""
    values = (value for node in graph for value in node.outputs)
    types = {value.dtype for value in (*graph.initializers.values(), *values)}
    needed = (LEAST_GPU[name] for dtype, name in _TYPES.items() if dtype in types)
    return max(needed, default=0)


def audit_file(layers: Sequence[EngineLayer], onnx: Path, plan: Plan | None = None) -> EngineAudit:
    """Say in which type the nodes of the `onnx` file run, which was compiled into `layers`.

    Of nodes that are not in INT8, the plan knows best why. Without one, the file says it where this
    program wrote it; else the rules of the target and of placement tell as much as it shows.
    """
    model = read_graph(onnx)
    nodes = {node_name(node.name, node.outputs[0].name or ""): node.op_type for node in model.graph}
    reasons = _placement_reasons(model) | blocking_reasons(model, "tensorrt") | _noted(model)
    reasons |= {node.name: node.reason for node in plan.floats} if plan is not None else {}
    return audit(layers, nodes, reasons, neighbours_of(model.graph))


def _noted(model: ir.Model) -> dict[str, str]:
    """Return the reasons that the file itself gives, by node name."""
    noted = ((node.name or "", node.metadata_props.get(FLOAT_REASON)) for node in model.graph)
    return {name: reason for name, reason in noted if reason}


def _placement_reasons(model: ir.Model) -> dict[str, str]:
    """Return why placement would leave nodes float that read float32."""
    inferred = tidied(model)
    infer_shapes(inferred)
    graph = inferred.graph
    wide = {node.name for node in graph if node.inputs and _is_float32(node.inputs[0])}
    return {n.name: n.reason for n in place(graph, set()).floats if n.name in wide}


def _is_float32(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def _judged(model: Model) -> tuple[Finding, ...]:
    """Return what stands against TensorRT for RTX, which is asked, or what is here in its place."""
    try:
        flavour = find_flavour("rtx").name
    except UnfitError:
        flavour = judged_flavour()
    return graph_findings(model, flavour)


def _ask_tensorrt(
    base: ModelAudit, model: Model, shapes: Sequence[str], image_size: tuple[int, int] | None
) -> ModelAudit:
    try:
        found = audit_tensorrt(model, shapes=shapes, image_size=image_size)
    except UnfitError as error:
        return replace(base, notes=(f"only rules were checked: {error}",))
    except EngineError as error:
        return replace(base, runtime=str(find_flavour("rtx")), refusal=str(error))
    return replace(
        base,
        runtime=str(find_flavour("rtx")),
        nodes_by_dtype=found.nodes_by_dtype,
        int8_fraction=_share(found.nodes_by_dtype),
        not_int8=found.not_int8,
        own_qdq=found.own_qdq,
        notes=("TensorRT itself may fuse otherwise than TensorRT for RTX",),
    )


def _ask_cpu(base: ModelAudit, model: Model, image_size: tuple[int, int] | None) -> ModelAudit:
    assert model.path is not None  # or there would be nothing to audit
    runtime = f"ONNX Runtime {ort.__version__}"
    try:
        found = audit_cpu(model.path)
        notes = _run_once(model, model.path, image_size)
    except (DataError, ModelError) as error:
        return replace(base, runtime=runtime, refusal=str(error))
    graph = read_graph(model.path)
    noted = _noted(graph)
    floats = Counter(node.op_type for node in found.unfused)
    ops = Counter(node.op_type for node in graph.graph if is_compute(node))
    counts = {
        op: {dtype: n for dtype, n in ((INT8, total - floats[op]), (_FLOAT, floats[op])) if n}
        for op, total in ops.items()
    }
    return replace(
        base,
        runtime=runtime,
        nodes_by_dtype=counts,
        int8_fraction=_share(counts),
        not_int8=tuple(
            NodeFinding(n.name, n.op_type, _FLOAT, noted.get(n.name, n.reason))
            for n in found.unfused
        ),
        notes=notes,
    )


def _run_once(model: Model, path: Path, image_size: tuple[int, int] | None) -> tuple[str, ...]:
    """Run a file on random data, since kernels refuse some nodes only then; note if that cannot be.

    Raises:
        DataError: It fails.
    """
    try:
        sample = SyntheticSource(model.inputs, 1, 0, image_size).load(0)
    except DataError as error:
        reason = str(error).partition(";")[0]
        return (f"it was loaded, not run: {reason}; give images a --size",)
    with closing(OrtRunner(path)) as runner:
        runner.run(sample.feeds)
    return ()


def _share(nodes_by_dtype: Mapping[str, Mapping[str, int]]) -> float | None:
    int8, total = count_in(nodes_by_dtype)
    return int8 / total if total else None

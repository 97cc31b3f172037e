"""What the project uses of TensorRT: declared here by hand, and found in the source.

`RECEIVERS` says which expressions of which files are objects of TensorRT. Whatever the source does
with them is collected from its syntax tree, and has to be declared in `USES` with the versions in
which the project uses it.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fake_trt import versions

ROOT = Path(__file__).parents[1]

ALL = tuple(versions())
TEN = tuple(version for version in ALL if version.startswith("10"))
RTX = ("rtx-1.7",)

MODULE = "module"
"""The class of expressions that are the module itself."""

# Each file that touches TensorRT, and the expressions in it that are TensorRT's own objects.
RECEIVERS = {
    "qbench/engines/compiling/worker.py": {
        "module": MODULE,
        "builder": "Builder",
        "network": "INetworkDefinition",
        "network.get_input(index)": "ITensor",
        "parser": "OnnxParser",
        "error": "ParserError",
        "config": "IBuilderConfig",
        "profile": "IOptimizationProfile",
    },
    "qbench/engines/build.py": {"module": MODULE},
    "qbench/engines/compiling/config.py": {
        "module": MODULE,
        "compilation.module": MODULE,
        "config": "IBuilderConfig",
        "compilation.config": "IBuilderConfig",
    },
    "qbench/engines/compiling/features.py": {"module": MODULE},
    "qbench/engines/compiling/implicit.py": {"module": MODULE, "config": "IBuilderConfig"},
    "qbench/engines/compiling/io_formats.py": {
        "compilation.module": MODULE,
        "network": "INetworkDefinition",
        "tensor": "ITensor",
        "by_name[name]": "ITensor",
    },
    "qbench/engines/compiling/listeners.py": {"module": MODULE, "severities": "ILogger.Severity"},
    "qbench/engines/compiling/targets.py": {"module": MODULE},
    "qbench/engines/compiling/timing_cache.py": {
        "config": "IBuilderConfig",
        "cache": "ITimingCache",
    },
    "qbench/runtimes/tensorrt/engine_file.py": {
        "module": MODULE,
        "self.module": MODULE,
        "self._runtime": "Runtime",
        "self.engine": "ICudaEngine",
        "modes": "TensorIOMode",
        "severities": "ILogger.Severity",
    },
    "qbench/runtimes/tensorrt/engine_io.py": {"module": MODULE, "context": "IExecutionContext"},
    "qbench/runtimes/tensorrt/engine_profile.py": {"module": MODULE, "engine.module": MODULE},
    "qbench/runtimes/tensorrt/execution.py": {
        "context": "IExecutionContext",
        "self._context": "IExecutionContext",
    },
    "qbench/runtimes/tensorrt/flavour.py": {"module": MODULE, "builder": "Builder"},
    "qbench/runtimes/tensorrt/inspector.py": {
        "module": MODULE,
        "runtime": "Runtime",
        "loaded": "ICudaEngine",
        "engine": "ICudaEngine",
        "inspector": "EngineInspector",
    },
}

FOLDERS = ("qbench/engines", "qbench/runtimes", "scripts")

_ASKING = ("getattr", "hasattr", "setattr", "_set")
"""Functions whose second argument is the name of a member of the first."""

_IN_ALL = (
    "Builder",
    "Builder.build_serialized_network",
    "Builder.create_builder_config",
    "Builder.create_network",
    "Builder.create_optimization_profile",
    "BuilderFlag",
    "EngineInspector.get_engine_information",
    "HardwareCompatibilityLevel",
    "IBuilderConfig.add_optimization_profile",
    "IBuilderConfig.builder_optimization_level",
    "IBuilderConfig.clear_flag",
    "IBuilderConfig.create_timing_cache",
    "IBuilderConfig.get_timing_cache",
    "IBuilderConfig.hardware_compatibility_level",
    "IBuilderConfig.max_aux_streams",
    "IBuilderConfig.profiling_verbosity",
    "IBuilderConfig.progress_monitor",
    "IBuilderConfig.set_flag",
    "IBuilderConfig.set_memory_pool_limit",
    "IBuilderConfig.set_timing_cache",
    "ICudaEngine.create_engine_inspector",
    "ICudaEngine.create_execution_context",
    "ICudaEngine.get_tensor_dtype",
    "ICudaEngine.get_tensor_format",
    "ICudaEngine.get_tensor_location",
    "ICudaEngine.get_tensor_mode",
    "ICudaEngine.get_tensor_name",
    "ICudaEngine.get_tensor_profile_shape",
    "ICudaEngine.get_tensor_shape",
    "ICudaEngine.num_io_tensors",
    "ICudaEngine.num_optimization_profiles",
    "ICudaEngine.streamable_weights_size",
    "IExecutionContext.active_optimization_profile",
    "IExecutionContext.execute_async_v3",
    "IExecutionContext.get_tensor_shape",
    "IExecutionContext.infer_shapes",
    "IExecutionContext.profiler",
    "IExecutionContext.set_input_shape",
    "IExecutionContext.set_optimization_profile_async",
    "IExecutionContext.set_output_allocator",
    "IExecutionContext.set_tensor_address",
    "ILogger",
    "ILogger.Severity",
    "ILogger.Severity.ERROR",
    "ILogger.Severity.INTERNAL_ERROR",
    "ILogger.Severity.WARNING",
    "ILogger.log",
    "INetworkDefinition.get_input",
    "INetworkDefinition.get_output",
    "INetworkDefinition.num_inputs",
    "INetworkDefinition.num_outputs",
    "IOptimizationProfile.set_shape",
    "IOutputAllocator",
    "IProfiler",
    "IProfiler.report_layer_time",
    "IProgressMonitor",
    "IProgressMonitor.phase_finish",
    "IProgressMonitor.phase_start",
    "IProgressMonitor.step_complete",
    "ITensor.allowed_formats",
    "ITensor.name",
    "ITimingCache.serialize",
    "LayerInformationFormat",
    "LayerInformationFormat.JSON",
    "MemoryPoolType",
    "MemoryPoolType.WORKSPACE",
    "NetworkDefinitionCreationFlag",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
    "OnnxParser",
    "OnnxParser.get_error",
    "OnnxParser.num_errors",
    "OnnxParser.parse_from_file",
    "ParserError.desc",
    "ParserError.node_name",
    "ParserError.node_operator",
    "ProfilingVerbosity",
    "ProfilingVerbosity.DETAILED",
    "Runtime",
    "Runtime.deserialize_cuda_engine",
    "Runtime.engine_host_code_allowed",
    "TensorFormat",
    "TensorFormat.LINEAR",
    "TensorIOMode",
    "TensorIOMode.INPUT",
    "TensorIOMode.OUTPUT",
    "TensorLocation",
    "TensorLocation.HOST",
    "init_libnvinfer_plugins",
)

# The first spelling of the budget, and what has the second.
_IN_FIRST = ("ICudaEngine.weight_streaming_budget",)
_SINCE_10_3 = (
    "ICudaEngine.device_memory_size_v2",
    "ICudaEngine.get_weight_streaming_automatic_budget",
    "ICudaEngine.weight_streaming_budget_v2",
)
_SINCE_10_16 = ("EngineStat", "EngineStat.TOTAL_WEIGHTS_SIZE", "ICudaEngine.get_engine_stat")

# Where TensorRT may place INT8 by itself.
_IN_TEN = ("IBuilderConfig.int8_calibrator", "IBuilderConfig.set_calibration_profile")

# Where it builds for GPUs that are not at hand.
_IN_RTX = (
    "ComputeCapability",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
)

USES = {
    **dict.fromkeys(_IN_ALL, ALL),
    **dict.fromkeys(_IN_TEN, TEN),
    **dict.fromkeys(_IN_RTX, RTX),
    **dict.fromkeys(_IN_FIRST, ALL[:1]),
    **dict.fromkeys(_SINCE_10_3, ALL[1:]),
    **dict.fromkeys(_SINCE_10_16, ALL[ALL.index("10.16") :]),
}
"""The versions in which each member is used."""

UNSEEN = {
    "IOutputAllocator.notify_shape",
    "IOutputAllocator.reallocate_output",
    "IOutputAllocator.reallocate_output_async",
}
"""Methods that TensorRT looks up in derived classes by name, and that its bindings do not show."""


@dataclass
class Use:
    """A member that is used, with the keywords that it is called with anywhere."""

    keywords: set[str] = field(default_factory=set)
    places: list[str] = field(default_factory=list)


def uses_in_source() -> dict[str, Use]:
    """Return every member that the source uses, by `Class.member` or by name in the module."""
    found: dict[str, Use] = {}
    for file, receivers in RECEIVERS.items():
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        for line, member, keywords in (*_members(tree, receivers), *_overrides(tree, receivers)):
            use = found.setdefault(member, Use())
            use.keywords.update(keywords)
            use.places.append(f"{file}:{line}")
    return found


def files_that_may_touch_it() -> set[str]:
    """Return the files of `FOLDERS` with an expression named `module` or a TensorRT package."""
    found = set()
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        names = {
            name for node in ast.walk(ast.parse(path.read_text("utf-8"))) for name in _names(node)
        }
        if names & {"module", "trt", "tensorrt", "tensorrt_rtx"}:
            found.add(path.relative_to(ROOT).as_posix())
    return found


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)


def _members(
    tree: ast.AST, receivers: dict[str, str]
) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Yield line, member and keywords of everything that is done with the receivers."""
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        asked = _attribute(node)
        if asked is None:
            continue
        member = _dotted(asked[0], asked[1], receivers)
        if member is not None and "__" not in member:
            call = calls.get(id(node))
            keywords = tuple(word.arg for word in call.keywords if word.arg) if call else ()
            yield node.lineno, member, keywords  # type: ignore[attr-defined]


def _overrides(
    tree: ast.AST, receivers: dict[str, str]
) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Yield the public methods of classes that derive from one of the module's."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for base in node.bases:
            if isinstance(base, ast.Attribute) and _dotted(base.value, base.attr, receivers):
                for method in node.body:
                    if isinstance(method, ast.FunctionDef) and method.name[0] != "_":
                        yield method.lineno, f"{base.attr}.{method.name}", ()


def _attribute(node: ast.AST) -> tuple[ast.expr, str] | None:
    """Return what `a.b`, `getattr(a, "b")` and `hasattr(a, "b")` ask of what."""
    if isinstance(node, ast.Attribute):
        return node.value, node.attr
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        asks = node.func.id in _ASKING and len(node.args) > 1
        if asks and isinstance(node.args[1], ast.Constant):
            return node.args[0], str(node.args[1].value)
    return None


def _dotted(holder: ast.expr, name: str, receivers: dict[str, str]) -> str | None:
    text = ast.unparse(holder)
    if text in receivers:
        return name if receivers[text] == MODULE else f"{receivers[text]}.{name}"
    # A member of a class or enum of the module: `module.ILogger.Severity`.
    if isinstance(holder, ast.Attribute):
        outer = _dotted(holder.value, holder.attr, receivers)
        return f"{outer}.{name}" if outer and outer[0].isupper() else None
    return None

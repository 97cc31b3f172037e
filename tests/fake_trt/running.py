"""What the runtime does: it loads plans, if they are of its own version, and describes them."""

from typing import Any

from fake_trt.basics import holds_shape, host_memory, log, shape_of, type_name, weights_bytes
from fake_trt.executing import profile_range
from fake_trt.plan import Plan, from_bytes, to_bytes
from fake_trt.spec import create

ACTIVATIONS = 1 << 20
"""Bytes of device memory that each context takes."""


class Runtime:
    """Loads engines."""

    engine_host_code_allowed = False

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    logger = property(lambda self: self._logger)

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Any:
        plan = from_bytes(bytes(serialized_engine))
        problem = _misfit(plan, self._module, self.engine_host_code_allowed)
        if plan is None or problem:
            log(self._logger, "ERROR", f"IRuntime::deserializeCudaEngine: {problem}")
            return None
        return create(self._module.ICudaEngine, _logger=self._logger, **_engine_state(plan))


class ICudaEngine:
    """An engine that is loaded."""

    num_io_tensors = property(lambda self: len(self._infos))
    num_optimization_profiles = property(lambda self: max(1, len(self._plan.profiles)))
    num_layers = property(lambda self: len(self._proto.graph.node))
    num_aux_streams = 0
    device_memory_size = ACTIVATIONS
    device_memory_size_v2 = ACTIVATIONS
    name = ""

    @property
    def weight_streaming_budget(self) -> int:
        return self._budget

    @weight_streaming_budget.setter
    def weight_streaming_budget(self, value: int) -> None:
        if self._has_context:
            raise RuntimeError("a budget cannot be set once a context exists")
        self._budget = value

    weight_streaming_budget_v2 = weight_streaming_budget

    @property
    def streamable_weights_size(self) -> int:
        return weights_bytes(self._proto) if "WEIGHT_STREAMING" in self._plan.flags else 0

    def get_weight_streaming_automatic_budget(self) -> int:
        # As if the GPU had room for half of them.
        return self.streamable_weights_size // 2

    def get_engine_stat(self, stat: Any = None) -> int:
        is_total = stat is None or stat.name == "TOTAL_WEIGHTS_SIZE"
        return weights_bytes(self._proto) if is_total else -1

    @property
    def profiling_verbosity(self) -> Any:
        return getattr(self._module.ProfilingVerbosity, self._plan.verbosity)

    @property
    def refittable(self) -> bool:
        return "REFIT" in self._plan.flags

    def get_tensor_name(self, index: int) -> str:
        return list(self._infos)[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self._module.TensorIOMode
        if name not in self._infos:
            return modes.NONE
        return modes.INPUT if name in self._input_names else modes.OUTPUT

    def get_tensor_shape(self, name: str) -> Any:
        return self._module.Dims(shape_of(self._infos[name]))

    def get_tensor_dtype(self, name: str) -> Any:
        kind = type_name(self._infos[name].type.tensor_type.elem_type)
        return getattr(self._module.DataType, str(kind))

    def get_tensor_location(self, name: str) -> Any:
        locations = self._module.TensorLocation
        return locations.HOST if holds_shape(self._proto, name) else locations.DEVICE

    def get_tensor_format(self, name: str, profile_index: int = 0) -> Any:
        del profile_index
        return getattr(self._module.TensorFormat, self._plan.formats.get(name, "LINEAR"))

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        if not 0 <= profile_index < self.num_optimization_profiles or name not in self._input_names:
            log(self._logger, "ERROR", f"no profile {profile_index} of {name}")
            return []
        return [self._module.Dims(shape) for shape in profile_range(self, name, profile_index)]

    def create_execution_context(self, strategy: Any = None) -> Any:
        del strategy
        self._has_context = True
        state: dict[str, Any] = {"_shapes": {}, "_addresses": {}, "_allocators": {}}
        for name in self._input_names:
            if -1 not in (shape := shape_of(self._infos[name])):
                state["_shapes"][name] = shape
        return create(self._module.IExecutionContext, _engine=self, _profile=0, **state)

    def create_engine_inspector(self) -> Any:
        return create(self._module.EngineInspector, _engine=self)

    def serialize(self) -> Any:
        return host_memory(self._module, to_bytes(self._plan))


def _misfit(plan: Plan | None, module: Any, host_code_allowed: bool) -> str | None:
    """Return why a plan does not load."""
    if plan is None or plan.module != module.__name__:
        return "Magic tag does not match"
    if "VERSION_COMPATIBLE" in plan.flags:
        # Such engines carry a runtime of their own, which is code.
        return None if host_code_allowed else "engine_host_code_allowed is not set"
    if plan.version != module.__version__:
        return f"the engine is of version {plan.version}, expecting {module.__version__}"
    return None


def _engine_state(plan: Plan) -> dict[str, Any]:
    proto = plan.proto()
    constants = {constant.name for constant in proto.graph.initializer}
    inputs = {info.name: info for info in proto.graph.input if info.name not in constants}
    infos = inputs | {info.name: info for info in proto.graph.output}
    state: dict[str, Any] = {"_plan": plan, "_proto": proto, "_infos": infos}
    return state | {"_input_names": list(inputs), "_budget": None, "_has_context": False}

"""What the builder does: checks like TensorRT's, progress, calibration, and the plan."""

from collections.abc import Iterator
from typing import Any

from fake_trt.basics import host_memory, log, shape_of
from fake_trt.calibrating import calibrate
from fake_trt.config import new_config
from fake_trt.plan import Plan, to_bytes
from fake_trt.spec import create

_PHASES = (("Building engine", None, 2), ("Optimizing graph", "Building engine", 3))
_PRECISIONS = ("FP16", "BF16", "INT8", "FP8", "INT4", "FP4")
_NEED_A_GPU = ("REFIT", "STRIP_PLAN", "VERSION_COMPATIBLE")


class Builder:
    """Makes networks, configs, profiles and engines."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    logger = property(lambda self: self._logger)

    def create_network(self, flags: int = 0) -> Any:
        known = self._module.NetworkDefinitionCreationFlag.__members__.values()
        if flags >> (1 + max(int(flag) for flag in known)):
            log(self._logger, "ERROR", f"Parameter check failed: no creation flags {flags:#b}")
            return None
        state = {"_flags": flags, "_proto": None, "_inputs": [], "_outputs": []}
        return create(self._module.INetworkDefinition, **state)

    def create_builder_config(self) -> Any:
        return new_config(self._module, self._logger)

    def create_optimization_profile(self) -> Any:
        return create(self._module.IOptimizationProfile, _shapes={}, _values={})

    def build_serialized_network(self, network: Any, config: Any, kernel_text: Any = None) -> Any:
        del kernel_text
        problem = next(_problems(network, config), None)
        if problem is not None:
            message = f"IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error ({problem})"
            log(self._logger, "ERROR", message)
            return None
        if not _report(config.progress_monitor):
            log(self._logger, "ERROR", "the build was cancelled by its progress monitor")
            return None
        calibration = ""
        if _flag(config, "INT8"):
            calibration = calibrate(network, config)
            if not calibration:
                log(self._logger, "ERROR", "Calibration failure occurred with no scaling factors")
                return None
        if config._cache is not None:
            config._cache._data += b"timed;"
        log(self._logger, "INFO", "Engine generation completed.")
        return host_memory(self._module, to_bytes(_plan(network, config, calibration)))


def _plan(network: Any, config: Any, calibration: str) -> Plan:
    module = network._module
    # Of all formats that are allowed, as they are at first, the linear one is the first.
    layouts = sorted(module.TensorFormat.__members__.items(), key=lambda item: int(item[1]))
    tensors = [*network._inputs, *network._outputs]
    return Plan(
        module=module.__name__,
        version=module.__version__,
        model=network._proto.SerializeToString(),
        profiles=[dict(profile._shapes) for profile in config._profiles],
        flags=[name for name in module.BuilderFlag.__members__ if _flag(config, name)],
        verbosity=config.profiling_verbosity.name,
        targets=[capability.name for capability in config._capabilities],
        calibration=calibration,
        formats={
            tensor.name: next(n for n, m in layouts if tensor.allowed_formats >> int(m) & 1)
            for tensor in tensors
        },
    )


def _flag(config: Any, name: str) -> bool:
    """Return whether a flag is set that this version may lack."""
    member = getattr(config._module.BuilderFlag, name, None)
    return member is not None and config.get_flag(member)


def _problems(network: Any, config: Any) -> Iterator[str]:
    module = network._module
    if not network._outputs:
        yield "Network must have at least one output."
    typed = network.get_flag(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    for name in _PRECISIONS:
        if typed and _flag(config, name):
            yield f"precision flag {name} is set, but the network is strongly typed"
    if _flag(config, "WEIGHT_STREAMING") and not typed:
        yield "weight streaming needs a strongly typed network"
    if module.__name__ == "tensorrt_rtx":
        yield from _problems_of_rtx(network, config)
    yield from _profile_problems(network, config)


def _problems_of_rtx(network: Any, config: Any) -> Iterator[str]:
    for name in _NEED_A_GPU:
        if _flag(config, name):
            yield f"{name} is not possible without a GPU"
    if any(node.op_type == "NonMaxSuppression" for node in network._proto.graph.node):
        yield "no kernel for NonMaxSuppression"


def _profile_problems(network: Any, config: Any) -> Iterator[str]:
    shapes = {tensor.name: shape_of(tensor._info) for tensor in network._inputs}
    dynamic = [name for name, shape in shapes.items() if -1 in shape]
    if dynamic and not config._profiles:
        yield "Network has dynamic or shape inputs, but no optimization profile has been defined."
    for index, profile in enumerate(config._profiles):
        for name in dynamic:
            if name not in profile._shapes:
                yield f"dynamic input {name} is missing dimensions in profile {index}."
        for name, ranges in profile._shapes.items():
            if name not in shapes:
                yield f"profile {index} names {name}, which is no input"
            elif not all(_matches(shapes[name], shape) for shape in ranges):
                yield f"input {name} has static dimensions that profile {index} contradicts"


def _matches(built: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    if len(built) != len(shape):
        return False
    return all(known in (-1, dim) for known, dim in zip(built, shape, strict=True))


def _report(monitor: Any) -> bool:
    """Tell a progress monitor of all phases; return whether it wants the build to go on."""
    if monitor is None:
        return True
    for phase in _PHASES:
        monitor.phase_start(*phase)
    goes_on = True
    for name, _, steps in reversed(_PHASES):
        for step in range(steps):
            goes_on = goes_on and monitor.step_complete(name, step)
        monitor.phase_finish(name)
    return goes_on

"""What the layers of a TensorRT engine take of its time."""

from collections import Counter
from types import ModuleType
from typing import Any

from qbench.runtimes.base import OperatorTime
from qbench.runtimes.profile import Times, computed_in, shares
from qbench.runtimes.tensorrt.engine_file import EngineFile
from qbench.runtimes.tensorrt.execution import Lane
from qbench.runtimes.tensorrt.inspector import inspected, layers_from_inspector
from qbench.runtimes.tensorrt.layers import EngineLayer


def profile_lane(engine: EngineFile, lane: Lane, runs: int) -> tuple[OperatorTime, ...]:
    """Return what takes the time of a lane that is fed, largest first.

    Raises:
        EngineError: TensorRT or CUDA fails.
    """
    lane.execute()  # not counted: it allocates and loads kernels
    lane.stream.synchronize()
    profiler = _profiler(engine.module)
    lane.report_to(profiler)
    for _ in range(runs):
        lane.execute()
        lane.stream.synchronize()
    kinds = _kinds_of_layers(engine)
    times: Times = Counter()
    for layer, nanoseconds in profiler.times.items():
        times[kinds.get(layer, (layer, None))] += nanoseconds
    return shares(times)


def _kinds_of_layers(engine: EngineFile) -> dict[str, tuple[str, str | None]]:
    """Return what kind of layer each is and which type it takes, as far as the engine tells."""
    layers = layers_from_inspector(inspected(engine.module, engine.engine))
    return {layer.name: (layer.kind or layer.name, _type(layer)) for layer in layers}


def _type(layer: EngineLayer) -> str | None:
    tensors = (*layer.inputs, *layer.outputs)
    return next((computed_in(tensor.dtype) for tensor in tensors if tensor.dtype), None)


def _profiler(module: ModuleType) -> Any:
    """Return what TensorRT reports the time of layers to; `times` holds nanoseconds by layer."""

    class Profiler(module.IProfiler):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.times: Counter[str] = Counter()

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times[layer_name] += round(ms * 1e6)

    return Profiler()

"""What the layers of a TensorRT engine take of its time."""

import json
from collections import Counter
from types import ModuleType
from typing import Any

from qbench.runtimes.base import OperatorTime
from qbench.runtimes.engine_file import EngineFile
from qbench.runtimes.execution import Lane
from qbench.runtimes.profile import Times, shares, type_in

_FORMATS = ("Datatype", "DataType", "Format/Datatype")
"""Where versions of the inspector tell the type of a tensor."""


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
    inspector = engine.engine.create_engine_inspector()
    text = inspector.get_engine_information(engine.module.LayerInformationFormat.JSON)
    # TensorRT writes the separators of node names as they are, which strict JSON forbids.
    layers = json.loads(text, strict=False).get("Layers", ())
    return dict(_kind(layer) for layer in layers if isinstance(layer, dict))


def _kind(layer: dict[str, Any]) -> tuple[str, tuple[str, str | None]]:
    name = str(layer["Name"])
    return name, (str(layer.get("LayerType", name)), _type(layer))


def _type(layer: dict[str, Any]) -> str | None:
    for tensor in (*layer.get("Inputs", ()), *layer.get("Outputs", ())):
        for name in _FORMATS:
            if name in tensor:
                return type_in(str(tensor[name]))
    return None


def _profiler(module: ModuleType) -> Any:
    """Return what TensorRT reports the time of layers to; `times` holds nanoseconds by layer."""

    class Profiler(module.IProfiler):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.times: Counter[str] = Counter()

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times[layer_name] += round(ms * 1e6)

    return Profiler()

"""OpenVINO on the CPU as a Runner."""

import importlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.errors import ModelError, UnfitError
from qbench.model.spec import TensorSpec
from qbench.runtimes.base import OperatorTime, Tensors, closed, misfit
from qbench.runtimes.element_types import dtype_named
from qbench.runtimes.profile import Times, computed_in, shares

PROVIDER = "openvino"

_DEVICE = "CPU"
_TELEMETRY = "openvino_telemetry"
_MICROSECOND = timedelta(microseconds=1)

_HALVES = {"f16": "FP16", "bf16": "BF16"}
"""What OpenVINO calls the types of 16 bits, as elements and as capabilities of a CPU."""

_SINK = "/sink_port_0"
"""What OpenVINO adds to the name of an ONNX output."""

_ERRORS = (RuntimeError, ValueError, TypeError)
_TOLD = 2
"""Lines of an error that say something, of which the first may be general."""


class OpenVinoRunner:
    """A model in OpenVINO, on the CPU.

    FP32 is computed in FP32. By itself OpenVINO would take BF16 wherever the CPU can, and rows
    would not be what they say. `run` is for one thread at a time.

    Args:
        model: Path of an ONNX file, or its bytes.
        threads: Of all streams together; 0 leaves the choice to OpenVINO.
        streams: How many bound calls can run at once; more wait for each other.

    Raises:
        UnfitError: OpenVINO is not installed or does not load.
        ModelError: OpenVINO refuses the model.
    """

    device_memory_bytes: int | None = None

    def __init__(self, model: Path | bytes, *, threads: int = 0, streams: int = 1) -> None:
        self._ov = import_openvino()
        self._core = self._ov.Core()
        self._options = {"EXECUTION_MODE_HINT": "ACCURACY", "NUM_STREAMS": streams}
        if threads:
            self._options["INFERENCE_NUM_THREADS"] = threads
        started = time.perf_counter()
        try:
            source = model if isinstance(model, bytes) else str(model)
            self._model: Any = self._core.read_model(source)
            # Names as ONNX has them: compiling adds those of tensors that it finds to be the same.
            self.inputs = tuple(map(_spec, self._model.inputs))
            self.outputs = tuple(map(_spec, self._model.outputs))
            self._compiled: Any = self._compile()
        except _ERRORS as error:
            raise ModelError(f"OpenVINO refuses the model: {_reason(error)}") from error
        self.load_seconds = time.perf_counter() - started
        self.provider = PROVIDER
        self.notes = self._notes()
        self._own: Any = None

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Tensors:
        """Return all outputs for `feeds`, as new arrays.

        Raises:
            DataError: The feeds do not fit the model's inputs.
            ModelError: The runner is closed.
        """
        if self._own is None:
            self._own = self._request()
        self._feed(self._own, feeds)()
        return {
            spec.name: self._own.get_output_tensor(index).data.copy()
            for index, spec in enumerate(self.outputs)
        }

    def bind(self, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
        """Return a call that runs once on `feeds`, in an infer request of its own.

        Raises:
            DataError: The feeds do not fit the model's inputs; the call raises it as well, where a
                shape turns out to be wrong inside the model.
            ModelError: The runner is closed.
        """
        return self._feed(self._request(), feeds)

    def profile(
        self, feeds: Mapping[str, NDArray[Any]], runs: int = 10
    ) -> tuple[OperatorTime, ...]:
        """Return what takes the time on `feeds`, largest first.

        Raises:
            DataError: The feeds do not fit the model's inputs.
            ModelError: The runner is closed.
        """
        if self._model is None:
            raise closed()
        request = self._compile(PERF_COUNT=True).create_infer_request()
        call = self._feed(request, feeds)
        call()  # the first run is not counted: it allocates
        times: Times = Counter()
        for _ in range(runs):
            call()
            for node in request.get_profiling_info():
                key = node.node_type, computed_in(node.exec_type.rpartition("_")[2])
                times[key] += node.real_time // _MICROSECOND
        return shares(times)

    def close(self) -> None:
        """Let go of the model; bound calls keep it alive."""
        self._model = self._compiled = self._own = None

    def _request(self) -> Any:
        """Return a new infer request."""
        if self._compiled is None:
            raise closed()
        return self._compiled.create_infer_request()

    def _compile(self, **options: Any) -> Any:
        return self._core.compile_model(self._model, _DEVICE, self._options | options)

    def _feed(self, request: Any, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], None]:
        """Bind `feeds` to a request where they lie, and return the call that runs it."""
        inputs = self.inputs
        if {spec.name for spec in inputs} != feeds.keys():
            raise misfit(feeds, inputs, "the names differ")
        # OpenVINO shares only memory that is in order and that it may write to.
        arrays = {name: np.require(feed, requirements=("C", "W")) for name, feed in feeds.items()}
        try:
            for index, spec in enumerate(inputs):
                tensor = self._ov.Tensor(arrays[spec.name], shared_memory=True)
                request.set_input_tensor(index, tensor)
        except _ERRORS as error:
            raise misfit(feeds, inputs, _reason(error)) from error
        start, wait = request.start_async, request.wait

        def call() -> None:
            try:
                start()
                wait()
            except RuntimeError as error:
                # The call also keeps the arrays alive, which OpenVINO's tensors do not.
                raise misfit(arrays, inputs, _reason(error)) from error

        return call

    def _notes(self) -> tuple[str, ...]:
        """Return where a type is not computed in as one would think."""
        has = set(self._core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"))
        constants = (node for node in self._model.get_ops() if node.get_type_name() == "Constant")
        held = {node.get_element_type().get_type_name() for node in constants}
        wide = [word for name, word in _HALVES.items() if name in held and word not in has]
        notes = [f"this CPU has no {word}; OpenVINO computes it in FP32" for word in wide]
        if "f32" in held and (fast := has & set(_HALVES.values())):
            types = " or ".join(sorted(fast))
            notes.append(
                f"what is FP32 is computed in FP32; by itself OpenVINO would take {types} for it"
            )
        return tuple(notes)


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which would send a message with every import.

    Raises:
        UnfitError: It is not installed or does not load.
    """
    # None makes an import fail, and OpenVINO then takes the stub that it has for this case.
    hidden = sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]
    try:
        return importlib.import_module("openvino")
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UnfitError(
            f"OpenVINO does not load ({reason}); "
            "run `uv sync --extra openvino` or `pip install openvino`"
        ) from error
    finally:
        if hidden is None:
            del sys.modules[_TELEMETRY]


def _spec(port: Any) -> TensorSpec:
    name = port.node.friendly_name.removesuffix(_SINK)
    dims: tuple[Any, ...] = () if port.partial_shape.rank.is_dynamic else tuple(port.partial_shape)
    shape = tuple(dim.get_length() if dim.is_static else None for dim in dims)
    dtype = dtype_named(port.element_type.get_type_name())
    return TensorSpec(name if name in port.names else port.any_name, shape, dtype)


def _reason(error: Exception) -> str:
    """Return what an error says, without the places in OpenVINO's source."""
    lines = [line.strip().removeprefix("-- ") for line in str(error).splitlines()]
    told = [line for line in lines if line and not _is_place(line)]
    return " ".join(told[:_TOLD]) or "it gives no reason"


def _is_place(line: str) -> bool:
    return line.endswith(":") or line.startswith("Exception from ")

"""What an execution context does: it takes shapes and addresses, and runs with ONNX Runtime.

A device address is the address of host memory, so that no GPU takes part. Streams do their work at
once.
"""

import ctypes
import math
from typing import Any

import numpy as np
import onnx

from fake_trt.basics import holds_shape, log, shape_of
from fake_trt.inspecting import layer_names
from qbench.errors import QbenchError

_ALIGNMENT = 256


class IProfiler:
    """Is told what layers take; in the fake the first takes 1 ms, the second 2 ms, and so on."""


class IExecutionContext:
    """What one inference at a time runs in."""

    engine = property(lambda self: self._engine)
    enqueue_emits_profile = True
    active_optimization_profile = property(lambda self: self._profile)
    all_binding_shapes_specified = property(lambda self: not self._missing())

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        del stream_handle
        if not 0 <= profile_index < self._engine.num_optimization_profiles:
            return self._refuse(f"no profile {profile_index}")
        static = {n for n, i in self._engine._infos.items() if -1 not in shape_of(i)}
        self._shapes = {n: shape for n, shape in self._shapes.items() if n in static}
        self._profile = profile_index
        return True

    def set_input_shape(self, name: str, shape: Any) -> bool:
        if name not in self._engine._input_names:
            return self._refuse(f"{name} is no input")
        low, _, high = profile_range(self._engine, name, self._profile)
        fits = len(shape) == len(low) and all(
            a <= dim <= b for a, dim, b in zip(low, shape, high, strict=True)
        )
        if fits:
            self._shapes[name] = tuple(map(int, shape))
        return fits or self._refuse(
            f"Set dimensions {tuple(shape)} of {name} do not satisfy the optimization profile"
        )

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine._infos:
            return self._refuse(f"{name} is no input or output")
        self._addresses[name] = memory
        self._allocators.pop(name, None)
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        if name not in self._engine._infos or name in self._engine._input_names:
            return self._refuse(f"{name} is no output")
        self._allocators[name] = output_allocator
        return True

    def get_output_allocator(self, name: str) -> Any:
        return self._allocators.get(name)

    def infer_shapes(self) -> list[str]:
        return self._missing()

    def get_tensor_shape(self, name: str) -> Any:
        if name in self._engine._input_names:
            shape = self._shapes.get(name, shape_of(self._engine._infos[name]))
        else:
            shape = _inferred(self)[name]
        return self._module.Dims(shape)

    def get_tensor_strides(self, name: str) -> Any:
        shape = tuple(self.get_tensor_shape(name))
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        return self._module.Dims(strides)

    def execute_async_v3(self, stream_handle: int) -> bool:
        if missing := self._missing():
            return self._refuse(f"the shape of {missing[0]} is not set")
        unset = [name for name in self._engine._infos if not self._has_memory(name)]
        if unset:
            return self._refuse(f"Neither address or allocator is set for tensor {unset[0]}")
        try:
            arrays = _run(self._engine, {n: self._read(n) for n in self._engine._input_names})
        except QbenchError as error:
            return self._refuse(f"ONNX Runtime fails: {error}")
        if [n for n, array in arrays.items() if not self._write(n, array, stream_handle)]:
            return False
        if self.profiler is not None and self.enqueue_emits_profile:
            for index, layer in enumerate(layer_names(self._engine)):
                self.profiler.report_layer_time(layer, float(index + 1))
        return True

    def _has_memory(self, name: str) -> bool:
        return bool(self._addresses.get(name)) or name in self._allocators

    def _missing(self) -> list[str]:
        return [name for name in self._engine._input_names if name not in self._shapes]

    def _read(self, name: str) -> Any:
        return read(self._addresses[name], self._shapes[name], self._engine._infos[name])

    def _write(self, name: str, array: Any, stream: int) -> bool:
        address = self._addresses.get(name, 0)
        if name in self._allocators:
            address = _allocate(self._allocators[name], name, address, array, stream)
        if not address:
            return self._refuse(f"no memory for output {name}")
        array = np.ascontiguousarray(array)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)
        return True

    def _refuse(self, problem: str) -> bool:
        log(self._engine._logger, "ERROR", f"IExecutionContext: Error Code 3: {problem}")
        return False


def read(address: int, shape: tuple[int, ...], info: onnx.ValueInfoProto) -> Any:
    """Return the array that lies at an address."""
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type))
    data = ctypes.string_at(address, math.prod(shape) * kind.itemsize)
    return np.frombuffer(data, kind).reshape(shape)


def profile_range(engine: Any, name: str, index: int) -> Any:
    shape = shape_of(engine._infos[name])
    profiles = engine._plan.profiles
    return profiles[index].get(name, (shape,) * 3) if profiles else (shape,) * 3


def _run(engine: Any, feeds: dict[str, Any]) -> dict[str, Any]:
    if not hasattr(engine, "_runner"):
        # Not above: a process that only builds starts three times as fast without.
        from qbench.runtimes.ort.runner import OrtRunner

        # As TensorRT computes: what the Q/DQ nodes say, without kernels that saturate.
        engine._runner = OrtRunner(engine._plan.model, threads=1, simulate=True)
    return dict(engine._runner.run(feeds))


def _allocate(allocator: Any, name: str, address: int, array: Any, stream: int) -> int:
    wanted = (name, address, array.nbytes, _ALIGNMENT)
    if hasattr(allocator, "reallocate_output_async"):
        found = allocator.reallocate_output_async(*wanted, stream)
    else:
        found = allocator.reallocate_output(*wanted)
    allocator.notify_shape(name, array.shape)
    return int(found or 0)


def _inferred(context: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the outputs for the shapes of the inputs; -1 where data decide them."""
    engine, proto = context._engine, onnx.ModelProto()
    proto.CopyFrom(engine._proto)
    del proto.graph.value_info[:]
    for info in proto.graph.output:
        info.type.tensor_type.ClearField("shape")
    for info in proto.graph.input:
        if info.name not in context._shapes:
            continue
        shape, tensor = context._shapes[info.name], info.type.tensor_type
        typed = onnx.helper.make_tensor_type_proto(tensor.elem_type, shape)
        tensor.shape.CopyFrom(typed.tensor_type.shape)
        if holds_shape(proto, info.name) and context._addresses.get(info.name):
            values = onnx.numpy_helper.from_array(context._read(info.name), info.name)
            proto.graph.initializer.append(values)
    found = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    # A shape that is not even known by rank would read like that of a scalar.
    assert all(info.type.tensor_type.HasField("shape") for info in found.graph.output)
    return {info.name: shape_of(info) for info in found.graph.output}

"""Where the inputs and outputs of a TensorRT engine lie."""

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qbench.errors import DataError, QbenchError
from qbench.runtimes.cuda.base import Cuda, HostBytes
from qbench.runtimes.tensorrt.engine_file import Port, Shape


class Memory:
    """Device memory and page-locked host memory of one size, which only grows."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._size = 0
        self.address = 0
        self.host: HostBytes = np.empty(0, np.uint8)

    def reserve(self, size: int) -> None:
        """Have at least `size` bytes; what they held is lost where they grow."""
        if size <= self._size:
            return
        self.close()
        self.address = self._cuda.allocate(size)
        self.host = self._cuda.allocate_pinned(size)
        self._size = size

    def view(self, shape: Shape, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the first bytes of the host memory as an array."""
        size = math.prod(shape) * dtype.itemsize
        return self.host[:size].view(dtype).reshape(shape)

    def close(self) -> None:
        """Free both."""
        if self.address:
            self._cuda.free(self.address)
            self.address = 0
        if self.host.size:
            self._cuda.free_pinned(self.host)
            self.host = np.empty(0, np.uint8)
        self._size = 0


class InputSlot:
    """Where one input lies: in memory of its own, or on the device where the caller has it."""

    def __init__(self, port: Port, memory: Memory) -> None:
        self.port, self.memory = port, memory
        self.shape: Shape = ()
        self.address = self.size = 0
        self.from_host = False
        self.key: object = None
        self._kept: Any = None

    def take(self, feed: Any, cuda: Cuda) -> None:
        """Note a feed's shape and address; bring one on the host into pinned memory."""
        self._kept = feed  # memory of the caller must outlive the inference
        on_device = getattr(feed, "__cuda_array_interface__", None)
        if on_device is None:
            self._from_host(np.asarray(feed))
        else:
            self._on_device(on_device, cuda)

    def _from_host(self, array: NDArray[Any]) -> None:
        self._check_type(array.dtype)
        self.shape, self.size = array.shape, array.nbytes
        self.memory.reserve(max(self.size, 1))
        self.memory.view(array.shape, array.dtype)[...] = array
        self.from_host = not self.port.on_host
        self.address = self.memory.address if self.from_host else self.memory.host.ctypes.data
        values = array.tobytes() if self.port.on_host else None
        self.key = (self.shape, self.address, values)

    def _on_device(self, interface: Mapping[str, Any], cuda: Cuda) -> None:
        self._check_type(np.dtype(interface["typestr"]))
        if self.port.on_host:
            raise DataError(f"input {self.port.name!r} holds shapes; feed it from the host")
        if not _is_contiguous(interface):
            raise DataError(
                f"input {self.port.name!r} is strided on the device; make it contiguous"
            )
        stream = interface.get("stream")
        if stream is not None:
            cuda.wait_for(int(stream))
        self.shape, self.from_host = tuple(interface["shape"]), False
        self.address = int(interface["data"][0])
        self.key = (self.shape, self.address, None)

    def _check_type(self, dtype: np.dtype[Any]) -> None:
        wanted = self.port.spec.dtype
        # The array protocol has no word for ml_dtypes' types: they come as anonymous bytes.
        anonymous = dtype.type is np.void and wanted.kind == dtype.kind
        same_size = dtype.itemsize == wanted.itemsize
        if dtype != wanted and not (anonymous and same_size):
            raise DataError(
                f"input {self.port.name!r} is {dtype.name}, the engine takes "
                f"{self.port.spec.dtype.name}; convert the data"
            )


class OutputSlot:
    """Where one output lies."""

    def __init__(self, port: Port, memory: Memory) -> None:
        self.port, self.memory = port, memory
        self.allocator: Any = None
        self._shape: Shape = ()

    @property
    def shape(self) -> Shape:
        """Its shape, known after the inference where it depends on the data."""
        return self._shape if self.allocator is None else self.allocator.shape

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * self.port.spec.dtype.itemsize

    def array(self) -> NDArray[Any]:
        """Return what was downloaded, in pinned memory."""
        return self.memory.view(self.shape, self.port.spec.dtype)

    def place(self, context: Any, module: ModuleType) -> bool:
        """Tell `context`, whose input shapes are set, where to write; return whether it agrees."""
        name = self.port.name
        self._shape = tuple(map(int, context.get_tensor_shape(name)))
        if min(self._shape, default=0) < 0:
            self.allocator = self.allocator or _allocator(module, self.memory)
            return bool(context.set_output_allocator(name, self.allocator))
        self.allocator = None
        self.memory.reserve(max(self.size, 1))
        host = self.memory.host.ctypes.data
        return bool(
            context.set_tensor_address(name, host if self.port.on_host else self.memory.address)
        )


def _allocator(module: ModuleType, memory: Memory) -> Any:
    """Return what TensorRT asks for memory once it knows the size of an output."""

    class Allocator(module.IOutputAllocator):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.shape: Shape = (0,)
            self.error: QbenchError | None = None

        def reallocate_output(
            self, tensor_name: str, memory: int, size: int, alignment: int
        ) -> int:
            del tensor_name, memory, alignment
            return self._reserve(size)

        def reallocate_output_async(
            self, tensor_name: str, memory: int, size: int, alignment: int, stream: int
        ) -> int:
            del tensor_name, memory, alignment, stream
            return self._reserve(size)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            del tensor_name
            self.shape = tuple(map(int, shape))

        def _reserve(self, size: int) -> int:
            self.error = None
            try:
                memory.reserve(max(size, 1))
            except QbenchError as error:  # TensorRT's frames lie between here and who can raise it
                self.error = error
                return 0
            return memory.address

    return Allocator()


def _is_contiguous(interface: Mapping[str, Any]) -> bool:
    strides = interface.get("strides")
    if strides is None:
        return True
    expected = np.dtype(interface["typestr"]).itemsize
    for size, stride in zip(reversed(interface["shape"]), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True

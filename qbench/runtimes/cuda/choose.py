"""Which Python package calls CUDA."""

from collections.abc import Callable

from qbench.errors import UsageError
from qbench.runtimes.cuda.base import Cuda
from qbench.runtimes.cuda.cuda_bindings import CudaBindings
from qbench.runtimes.cuda.pycuda_backend import PyCuda

BACKENDS: dict[str, Callable[[], Cuda]] = {"cuda-bindings": CudaBindings, "pycuda": PyCuda}
"""What opens each backend; its package is imported then, not before."""

DEFAULT_BACKEND = "cuda-bindings"


def open_cuda(backend: str = DEFAULT_BACKEND) -> Cuda:
    """Return the first GPU through `backend`, a key of `BACKENDS`.

    Raises:
        UsageError: `backend` is another word.
        UnfitError: Its package does not load, or finds no GPU or no driver.
    """
    if backend not in BACKENDS:
        raise UsageError(f"unknown CUDA backend {backend!r}; choose from {', '.join(BACKENDS)}")
    return BACKENDS[backend]()

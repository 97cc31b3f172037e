"""Sessions of ONNX Runtime: their options, and how they are opened."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from qbench.errors import DataError, ModelError
from qbench.model.spec import TensorSpec, open_image_size
from qbench.runtimes.base import misfit
from qbench.runtimes.ort.providers import (
    ProviderChoice,
    did_not_load,
    preload_cuda,
    providers_for,
    watch,
)

_DISABLED = "optimization.disable_specified_optimizers"

_SEVERITY_ERROR = 3

SEVERITY_FATAL = 4
"""ONNX Runtime then logs no errors, which it raises as well."""

_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_PLACE = re.compile(r"/\S*onnxruntime/\S+\.(?:cc|h):\d+ [^()]*\([^()]*\)(?: const)? ?")


def session_options(threads: int = 0, simulate: bool = False) -> ort.SessionOptions:
    """Return session options for steady figures: threads at rest between runs, errors only."""
    options = ort.SessionOptions()
    options.log_severity_level = _SEVERITY_ERROR
    options.intra_op_num_threads = threads
    # Threads that spin on after a run steal time from the next candidate: of two sessions of
    # EfficientNet-lite0 in turns a run took 20 ms instead of 9. Within runs they spin, as they do
    # by default; without, the demo's classifier took 0.83 ms instead of 0.59, as no user sees it
    # (two virtual cores; `scripts/spinning_threads.py`).
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if simulate:
        # Only what turns Q/DQ into integer kernels is off: without any optimization a run takes
        # twice the time.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        # These stand outside of that: in front of an FP8 QuantizeLinear one refuses a Clip, and one
        # takes a Relu away, as if its codes had no sign.
        options.add_session_config_entry(_DISABLED, "ClipQuantRewrite;ReluQuantRewrite")
    return options


def share_arena(options: ort.SessionOptions) -> None:
    """Let a session take memory from one arena that sessions of the process may share.

    An arena of its own keeps what its runs took, which adds up over the parts of a model. What the
    shared one keeps is given back by `graphs.empty_arena`.
    """
    _register_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")


@cache
def _register_arena() -> None:
    kind = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    info = ort.OrtMemoryInfo("Cpu", kind, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(info, None)


def create_session(
    model: Path | bytes, choice: ProviderChoice, options: ort.SessionOptions
) -> ort.InferenceSession:
    """Open a model on one provider, or where that is allowed on others.

    Raises:
        UsageError: The provider is unknown.
        UnfitError: It does not load on this machine.
        ModelError: ONNX Runtime refuses the model.
    """
    attempts = providers_for(choice)
    if choice.name != "cpu":
        preload_cuda()
    watch(options, choice)
    # What fails to load is raised below, in one line; ONNX Runtime would print it in ten.
    ort.set_default_logger_severity(SEVERITY_FATAL)
    source = model if isinstance(model, bytes) else str(model)
    problem = ""
    for providers in attempts:
        try:
            # Without its own fallback, which prints to stdout and runs another provider than asked.
            return ort.InferenceSession(source, options, providers=providers, enable_fallback=0)
        except ORT_ERRORS as error:
            problem = first_line(error)
    if choice.name == "cpu" or choice.allow_fallback:  # the CPU was the last to refuse
        raise ModelError(f"ONNX Runtime refuses the model: {problem}")
    raise did_not_load(choice.name, problem)


ORT_ERRORS = (
    ort.capi.onnxruntime_pybind11_state.EngineError,
    ort.capi.onnxruntime_pybind11_state.EPFail,  # of a provider for GPUs
    ort.capi.onnxruntime_pybind11_state.Fail,
    ort.capi.onnxruntime_pybind11_state.InvalidArgument,
    ort.capi.onnxruntime_pybind11_state.InvalidGraph,
    ort.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    ort.capi.onnxruntime_pybind11_state.NoSuchFile,
    ort.capi.onnxruntime_pybind11_state.NotImplemented,
    ort.capi.onnxruntime_pybind11_state.RuntimeException,
    RuntimeError,
    ValueError,
)
"""What ONNX Runtime raises where it refuses a model or an input."""


def refused(
    feeds: Mapping[str, NDArray[Any]], inputs: Sequence[TensorSpec], error: BaseException
) -> DataError:
    """Return the error of `feeds` for which ONNX Runtime raised another.

    Where a node fails for an image whose size the model leaves open, it is mostly of a size that
    does not survive being halved and doubled.
    """
    reason = first_line(error)
    shapes = ((spec.shape, feeds[spec.name].shape) for spec in inputs if spec.name in feeds)
    is_open = any(open_image_size(wanted, given) for wanted, given in shapes)
    hint = "; try a --size of multiples of 32" if is_open and "while running" in reason else ""
    return misfit(feeds, inputs, reason + hint)


def first_line(error: BaseException) -> str:
    """Return the first line of an error without what only ONNX Runtime's authors can read.

    These are its code, and the place in its sources with the signature of a function. A line that
    announces something takes the next one along.
    """
    line, *others = str(error).strip().splitlines() or [type(error).__name__]
    if line.rstrip().endswith(":"):
        line = " ".join([line, *(other.strip() for other in others[:1])])
    return _PLACE.sub(" ", _CODE.sub("", line)).strip() or line

"""Execution providers of ONNX Runtime: their options, and what really runs on them.

ONNX Runtime always adds its CPU provider, and hands it what another one cannot run or the whole
model where the other one does not load. Here that is an error unless it is allowed.
"""

import contextlib
import io
import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnxruntime as ort

from qbench.errors import UnfitError, UsageError

logger = logging.getLogger(__name__)

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rtx": "NvTensorRTRTXExecutionProvider",
}
"""Short provider names of qbench, and ONNX Runtime's own."""

Providers = list[tuple[str, dict[str, str]]]
"""Providers in the order in which they may take nodes, each with its options."""

_NEXT = {"tensorrt": "cuda", "rtx": "cuda"}
"""Who runs what a provider leaves, where that is allowed; after it the CPU."""

_SHORT = {full: short for short, full in PROVIDERS.items()}

_PRECISION_FLAGS = {
    "int8": "trt_int8_enable",
    "fp16": "trt_fp16_enable",
    "bf16": "trt_bf16_enable",
}
"""What the `tensorrt` provider has to be told before a network of TensorRT 10 may use a type."""

_SHAPE_OPS = {"Cast", "Concat", "Constant", "ConstantOfShape", "Gather", "Range", "Shape", "Size"}
_SHAPE_OPS |= {"Slice", "Squeeze", "Unsqueeze"}
"""ONNX Runtime keeps arithmetic on shapes on the CPU on purpose; it costs no time worth naming."""

_NAMED = 3

_SOURCE = re.compile(r"^\S+\.cc:\d+ .*?\) ")


@dataclass(frozen=True)
class ProviderChoice:
    """Where a session shall run.

    Attributes:
        name: A key of `PROVIDERS`.
        allow_fallback: Let other providers run what this one cannot, up to the whole model.
        precision: What the model's low-precision tensors are (`int8`, `fp16`, `bf16`).
        cache: Folder in which `tensorrt` and `rtx` keep engines and timings; None keeps none.
    """

    name: str = "cpu"
    allow_fallback: bool = False
    precision: str = "fp32"
    cache: Path | None = None

    @property
    def full_name(self) -> str:
        """ONNX Runtime's name.

        Raises:
            UsageError: There is no such provider.
        """
        if self.name not in PROVIDERS:
            known = ", ".join(PROVIDERS)
            raise UsageError(f"unknown provider {self.name!r}; choose one of {known}")
        return PROVIDERS[self.name]


@dataclass(frozen=True)
class Ran:
    """What a session runs on.

    Attributes:
        provider: The provider of most of the work, a key of `PROVIDERS`.
        notes: What is not as asked for.
    """

    provider: str
    notes: tuple[str, ...] = ()


def providers_for(choice: ProviderChoice) -> list[Providers]:
    """Return what to open a session with: providers and their options, one list per attempt.

    Raises:
        UsageError: The provider is unknown.
        UnfitError: It is not part of this ONNX Runtime, and no other may take its place.
    """
    wanted, available = choice.full_name, ort.get_available_providers()
    if wanted not in available and not choice.allow_fallback:
        raise UnfitError(
            f"provider {choice.name!r} is not part of the installed ONNX Runtime; "
            "run `qbench doctor` to see what runs here"
        )
    chain = [wanted]
    if choice.allow_fallback and choice.name in _NEXT:
        chain.append(PROVIDERS[_NEXT[choice.name]])
    chosen = [(full, options_of(_SHORT[full], choice)) for full in chain if full in available]
    if not choice.allow_fallback:
        return [chosen]
    return [*(chosen[first:] for first in range(len(chosen))), [(PROVIDERS["cpu"], {})]]


@cache
def preload_cuda() -> tuple[str, ...]:
    """Load CUDA and cuDNN where Python packages have them, once; return what did not load.

    The providers look for them nowhere but on the system's path of libraries.
    """
    if not hasattr(ort, "preload_dlls"):
        return ()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        ort.preload_dlls()
    problems = tuple(line for line in said.getvalue().splitlines() if line.startswith("Failed"))
    for problem in problems:
        logger.info("%s", problem)
    return problems


def watch(options: ort.SessionOptions, choice: ProviderChoice) -> None:
    """Let a session tell what runs where, or refuse to run anything on the CPU."""
    if choice.name == "cpu":
        return
    if _can_tell():
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    elif not choice.allow_fallback:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")


def what_ran(session: ort.InferenceSession, choice: ProviderChoice) -> Ran:
    """Return what a session runs on.

    Raises:
        UnfitError: It is not what was asked for, and that is not allowed.
    """
    loaded = session.get_providers()[0]
    if loaded != choice.full_name:
        if not choice.allow_fallback:
            raise did_not_load(choice.name)
        ran = _SHORT.get(loaded, loaded)
        return Ran(ran, (f"provider {choice.name!r} did not load, {ran!r} ran the model",))
    if choice.name == "cpu" or not _can_tell():
        return Ran(choice.name)
    return judge_split(choice, _operators(session))


def judge_split(choice: ProviderChoice, operators: dict[str, Counter[str]]) -> Ran:
    """Return what a session runs on whose nodes are split over providers.

    Args:
        choice: What was asked for.
        operators: How often each operator runs, by ONNX Runtime's name of the provider.

    Raises:
        UnfitError: Other providers run more than arithmetic on shapes, and that is not allowed.
    """
    total = sum(counts.total() for counts in operators.values())
    elsewhere = {full: ops for full, ops in operators.items() if full != choice.full_name}
    left = [_left(_SHORT.get(full, full), ops, total) for full, ops in elsewhere.items() if ops]
    if not left:
        return Ran(choice.name)
    text = f"provider {choice.name!r} leaves {' and '.join(left)}"
    if not choice.allow_fallback and not set().union(*elsewhere.values()) <= _SHAPE_OPS:
        raise UnfitError(f"{text}; allow it with --allow-fallback, or use another provider")
    own = operators.get(choice.full_name, Counter())
    most = max(operators, key=lambda full: operators[full].total())
    return Ran(choice.name if own else _SHORT.get(most, most), (text,))


def did_not_load(provider: str, reason: str = "its libraries or driver are missing") -> UnfitError:
    """Return the error of a provider that did not load."""
    reason = _SOURCE.sub("", reason).rstrip(".")
    return UnfitError(
        f"provider {provider!r} did not load ({reason}); run `qbench doctor` to see what runs here"
    )


def options_of(name: str, choice: ProviderChoice) -> dict[str, str]:
    """Return what the provider `name` of `PROVIDERS` is told where `choice` is asked for."""
    options: dict[str, str] = {}
    if name == "tensorrt":
        if choice.precision in _PRECISION_FLAGS:
            options[_PRECISION_FLAGS[choice.precision]] = "1"
        if choice.cache is not None:
            for cache in ("trt_engine_cache", "trt_timing_cache"):
                options |= {f"{cache}_enable": "1", f"{cache}_path": str(choice.cache)}
    if name == "rtx" and choice.cache is not None:
        options["nv_runtime_cache_path"] = str(choice.cache)
    return options


def _can_tell() -> bool:
    return hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")


def _operators(session: ort.InferenceSession) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        counts = found.setdefault(part.ep_name, Counter())
        counts.update(node.op_type for node in part.get_nodes())
    return found


def _left(provider: str, operators: Counter[str], total: int) -> str:
    return f"{operators.total()} of {total} nodes to {provider!r} ({_first(operators)})"


def _first(operators: Iterable[str]) -> str:
    names = sorted(operators)
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")

"""The GPUs that an engine is built for."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from qbench.errors import UsageError

if TYPE_CHECKING:
    import onnx_ir as ir  # which the compiling process must not load

DEFAULT_TARGETS = ("sm80", "sm86", "sm89", "sm120")
"""Built for where no GPU is at hand: Ampere, Ada and Blackwell, at the cost of one of them."""

LEAST_GPU = {"bf16": 80, "int4": 80, "int8": 80, "fp8": 89}
"""Compute capability from which TensorRT for RTX has the type of a precision (measured with 1.7).

It refuses to build where one of the targets is older; of INT8 it compiles convolutions in float
then, on all targets, and refuses other products.
"""


def check_targets(precision: str, wanted: Sequence[str]) -> None:
    """Make sure that TensorRT for RTX has the type of a precision on all GPUs that are wanted.

    Raises:
        UsageError: One does not.
    """
    least = LEAST_GPU.get(precision, 0)
    for target in wanted:
        number = target.removeprefix("sm")
        if number.isdecimal() and int(number) < least:
            raise UsageError(
                f"--{precision} needs sm{least} or later, not {target}; "
                "drop it from --target-gpu, or use --fp16"
            )


def check_products(precision: str, wanted: Sequence[str], graph: ir.Graph) -> None:
    """Make sure that no target is wanted that cannot multiply the matrices of a model.

    TensorRT for RTX refuses Gemm and MatMul in FP32 for Turing (measured with 1.7).

    Raises:
        UsageError: One is.
    """
    product = next((node for node in graph if node.op_type in {"Gemm", "MatMul"}), None)
    if product is not None and precision == "fp32" and "sm75" in wanted:
        raise UsageError(
            f"--fp32 for sm75 cannot build {product.op_type} {product.name}; "
            "drop sm75 from --target-gpu, or use --fp16"
        )


def choose_targets(
    module: ModuleType, wanted: Sequence[str], gpu: str | None, least: int = 0
) -> tuple[str, ...]:
    """Return the targets to set on the builder: those wanted, else `gpu`, else the defaults.

    Returns nothing where `module` cannot build ahead of time; it then builds for the GPU at hand.

    Args:
        module: The module of TensorRT.
        wanted: Targets that were asked for.
        gpu: The target that is the GPU at hand.
        least: The least compute capability that knows the types of the model; older targets are
            left out of the defaults, and an older GPU at hand is passed over.

    Raises:
        UsageError: `wanted` holds a target that `module` does not know, or `module` knows none.
    """
    capabilities = getattr(module, "ComputeCapability", None)
    if capabilities is None:
        if wanted:
            raise UsageError(
                f"{module.__name__} cannot build for {', '.join(wanted)} ahead of time; "
                "leave --target-gpu out, or use --backend rtx"
            )
        return ()
    numbers = sorted(int(name[2:]) for name in dir(capabilities) if name.startswith("SM"))
    known = [f"sm{number}" for number in numbers]
    for target in wanted:
        if target not in known:
            raise UsageError(f"unknown target GPU {target!r}; choose from {', '.join(known)}")
    if wanted:
        return tuple(dict.fromkeys(wanted))
    able = [f"sm{number}" for number in numbers if number >= least]
    return (gpu,) if gpu in able else tuple(name for name in DEFAULT_TARGETS if name in able)

"""The precisions that `quantize` offers, and what may be chosen about each."""

from qbench.errors import UsageError
from qbench.placement.targets import TARGETS
from qbench.quantization.int8 import Int8Options
from qbench.quantization.precisions.half import HalfOptions
from qbench.quantization.precisions.weight_only import WeightOptions

Options = Int8Options | HalfOptions | WeightOptions

OPTIONS: dict[str, type[Options]] = {
    "int8": Int8Options,
    "fp16": HalfOptions,
    "bf16": HalfOptions,
    "fp8": Int8Options,
    "int4": WeightOptions,
    "weight-only": WeightOptions,
    "dynamic": Int8Options,
}
"""What `quantize` makes of a float model, and the options that say how."""

PRECISIONS = tuple(OPTIONS)

NEED_TABLE = frozenset({"int8", "fp8"})
"""Precisions whose scales come from a calibration table."""

MAY_TAKE_TABLE = NEED_TABLE | {"fp16"}
"""Precisions that may be made otherwise where there is a calibration table."""

_REFUSALS = {
    ("bf16", "cpu"): "ONNX Runtime's CPU provider has no BF16 kernels; use --fp16 or --int8",
    ("fp8", "cpu"): "ONNX Runtime's CPU provider has no FP8 kernels; use --int8",
    ("dynamic", "tensorrt"): (
        "dynamic quantization runs on target cpu only, not tensorrt; use --int8 or --weight-only"
    ),
}
"""What a target cannot do, and what to use in its place."""


def check_precision(precision: str, target: str) -> None:
    """Make sure that a target can do a precision.

    Raises:
        UsageError: It cannot, or one of both is unknown.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; choose from {', '.join(PRECISIONS)}")
    if target not in TARGETS:
        raise UsageError(f"unknown target {target!r}; choose one of {', '.join(TARGETS)}")
    if (precision, target) in _REFUSALS:
        raise UsageError(_REFUSALS[precision, target])


def options_for(precision: str, given: Options | None) -> Options:
    """Return the options of `precision`: those given, or the defaults.

    Raises:
        UsageError: They belong to another precision, or one has no effect.
    """
    kind = OPTIONS[precision]
    options = kind() if given is None else given
    if not isinstance(options, kind):
        raise UsageError(
            f"precision {precision!r} takes {kind.__name__}, not {type(options).__name__}"
        )
    if precision == "dynamic" and options.exclude:
        raise UsageError(f"--exclude {options.exclude[0]!r} has no effect on --dynamic; drop it")
    if precision != "int4" and isinstance(options, WeightOptions) and options.block:
        raise UsageError(f"--block {options.block} has an effect with --int4 only; drop it")
    return options

"""Check a model for what keeps TensorRT from building it."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import onnx_ir as ir
from onnx_ir.passes import common

from qbench.engines.preflight import forms, operators, tensors
from qbench.engines.preflight.shapes import shape_findings
from qbench.engines.profiles import ShapeRange
from qbench.errors import EngineError, UnfitError
from qbench.model.load import Model
from qbench.model.passes.infer_shapes import infer_shapes
from qbench.model.prepare import prepare
from qbench.quantization.linting.finding import ERROR, WARNING, Finding, Rule
from qbench.quantization.linting.lint import lint, tidied
from qbench.runtimes.tensorrt.flavour import Flavour, find_flavour

_ELSEWHERE = frozenset({"type", "double", "shape-input"})
"""Rules of RTX that hold for every TensorRT: all share its types, and are built with by qbench."""


def _softened(rule: Rule) -> Rule:
    """Return `rule` as it stands for TensorRT itself, on which it was not tried."""
    return rule if rule.name in _ELSEWHERE else replace(rule, severity=WARNING)


_FORMS = (*tensors.RULES, *forms.RULES)

RULES: dict[str, tuple[Rule, ...]] = {
    "tensorrt_rtx": (*operators.RTX_RULES, *_FORMS),
    "tensorrt": (*operators.TENSORRT_RULES, *map(_softened, _FORMS)),
}
"""Rules by flavour. What was only tried on TensorRT for RTX is no more than a warning elsewhere."""


def preflight(
    model: Model,
    flavour: str,
    shapes: Mapping[str, ShapeRange] = MappingProxyType({}),
    image_size: tuple[int, int] | None = None,
) -> tuple[Finding, ...]:
    """Return what TensorRT will not build of `model`, or not as it says; errors first.

    A float model is judged as it is built, prepared; a quantized one as it stands.

    Args:
        model: Any model; it is not changed.
        flavour: A key of `RULES`.
        shapes: Shapes of dynamic inputs.
        image_size: Height and width for a dynamic input without a shape.

    Raises:
        ModelError: The model cannot be prepared.
    """
    found = [*graph_findings(model, flavour), *shape_findings(model.inputs, shapes, image_size)]
    return tuple(sorted(found, key=lambda finding: finding.severity != ERROR))


def graph_findings(model: Model, flavour: str) -> tuple[Finding, ...]:
    """Return what stands in the graph that `flavour` will not build, or not as it says.

    Raises:
        ModelError: The model cannot be prepared.
    """
    judged = _as_built(model)
    rules = [finding for rule in RULES[flavour] for finding in rule.check(judged.graph)]
    return (*rules, *lint(model.ir, "tensorrt"))


def check_buildable(model: Model, flavour: Flavour) -> None:
    """Make sure that nothing is known that keeps `flavour` from building `model`.

    Shapes are not looked at: `profiles.profile_for` refuses those that do not fit.

    Raises:
        EngineError: Something is.
        ModelError: The model cannot be prepared.
    """
    errors = [f for f in graph_findings(model, flavour.name) if f.severity == ERROR]
    if errors:
        first, *others = errors
        more = f" (and {len(others)} more: `qbench inspect --target tensorrt`)" if others else ""
        raise EngineError(
            f"{flavour} cannot build {model.path}: {first.node!r}: {first.reason}; "
            f"{first.fix}{more}"
        )


def judged_flavour(backend: str = "auto") -> str:
    """Return the flavour to judge for: the one that `backend` means here, else RTX.

    Raises:
        UsageError: There is no such backend.
    """
    try:
        return find_flavour(backend).name
    except UnfitError:
        return "tensorrt" if backend == "tensorrt" else "tensorrt_rtx"


def _as_built(model: Model) -> ir.Model:
    """Return the graph that TensorRT reads, with types and shapes, and its functions inlined."""
    graph_model = tidied(model.ir) if model.is_quantized else prepare(model).ir
    inlined = common.InlinePass()(graph_model).model
    infer_shapes(inlined)
    return common.NameFixPass()(inlined).model

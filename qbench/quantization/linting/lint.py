"""Check a Q/DQ model against the rules of the target that shall run it."""

import onnx_ir as ir
from onnx_ir.passes import common

from qbench.errors import UsageError
from qbench.model.passes.remove_identities import remove_identities
from qbench.quantization.linting import cpu, tensorrt
from qbench.quantization.linting.cpu_fusion import merge_equal_pairs
from qbench.quantization.linting.finding import Finding, Rule
from qbench.runtimes.cpu import adds_in_32_bits, read_cpuinfo

RULES: dict[str, tuple[Rule, ...]] = {"cpu": cpu.RULES, "tensorrt": tensorrt.RULES}
"""Rules by target, worst first."""


def lint(model: ir.Model, target: str, *, saturates: bool | None = None) -> tuple[Finding, ...]:
    """Return where a Q/DQ `model` breaks the rules of `target`, worst first.

    Models with operators that are integer by themselves (QLinearConv, MatMulInteger) need no
    fusion on `cpu`; for `tensorrt` each of these is an error.

    Args:
        model: Any model; it is not changed.
        target: A key of `RULES`.
        saturates: Whether the CPU adds 8-bit products in 16 bits; None asks this machine's.

    Raises:
        UsageError: The target is unknown.
    """
    graph = _as_read(model, target)
    return tuple(found for rule in _rules(target, saturates) for found in rule.check(graph))


def blocking_reasons(model: ir.Model, target: str) -> dict[str, str]:
    """Return why nodes of a Q/DQ `model` cannot run in INT8 on `target`, by node name.

    Raises:
        UsageError: The target is unknown.
    """
    graph = _as_read(model, target)
    found = [f for rule in _rules(target, False) if rule.blocks for f in rule.check(graph)]
    return {finding.node: finding.reason for finding in reversed(found)}


def _as_read(model: ir.Model, target: str) -> ir.Graph:
    """Return the graph whose nodes the target looks at when it fuses."""
    graph = tidied(model).graph
    if target == "cpu":
        merge_equal_pairs(graph)
    return graph


def tidied(model: ir.Model) -> ir.Model:
    """Return a copy whose nodes have names and whose constants are initializers.

    No Identity stands between, such as exporters write where several nodes share a scale.

    Outputs that nodes leave out at their end are gone, since they would be given names as well.
    """
    copied = model.clone()
    for node in copied.graph.all_nodes():
        named = [index for index, output in enumerate(node.outputs, 1) if output.name]
        node.resize_outputs(max(named, default=0))
    tidy = ir.passes.Sequential(
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveInitializersFromInputsPass(),
        common.NameFixPass(),
    )
    clean = tidy(copied).model
    remove_identities(clean)
    return clean


def _rules(target: str, saturates: bool | None) -> tuple[Rule, ...]:
    if target not in RULES:
        raise UsageError(f"unknown target {target!r}; choose one of {', '.join(RULES)}")
    if saturates is None:
        saturates = not adds_in_32_bits(read_cpuinfo())
    return RULES[target] + ((cpu.SATURATION,) if saturates and target == "cpu" else ())

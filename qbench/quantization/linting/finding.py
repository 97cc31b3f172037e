"""What a rule is, and what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import onnx_ir as ir

ERROR = "error"
"""The target refuses the model, or computes something else than the model says."""

WARNING = "warning"
"""The model runs, but slower or less accurately than it could."""


class Finding(msgspec.Struct, frozen=True):
    """One place where a model breaks a rule.

    Attributes:
        rule: Name of the rule.
        severity: `error` or `warning`; see `ERROR` and `WARNING`.
        node: Name of the node that suffers.
        tensor: Name of the tensor whose quantization is at fault; empty where it is the node.
        reason: What is wrong, in a few words.
        fix: What to do about it.
    """

    rule: str
    severity: str
    node: str
    tensor: str
    reason: str
    fix: str


class Place(NamedTuple):
    """A node that breaks a rule, the tensor at fault, and the reason."""

    node: ir.Node
    tensor: ir.Value | None
    reason: str


@dataclass(frozen=True)
class Rule:
    """A rule of one target.

    Attributes:
        name: As findings and users call it.
        severity: `ERROR` or `WARNING`.
        find: Yields the places where a graph breaks the rule.
        fix: What to do about it.
        blocks: Whether the node of each place runs in float for it.
    """

    name: str
    severity: str
    find: Callable[[ir.Graph], Iterator[Place]]
    fix: str
    blocks: bool = False

    def check(self, graph: ir.Graph) -> Iterator[Finding]:
        """Yield what breaks the rule, in graph order."""
        for node, tensor, reason in self.find(graph):
            at_fault = (tensor.name if tensor is not None else None) or ""
            yield Finding(self.name, self.severity, node.name or "", at_fault, reason, self.fix)

"""The engine file of the fake: a line of JSON that says what was built, and the ONNX model."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import onnx

MAGIC = b"fake TensorRT engine "

Range = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Plan:
    """What a build leaves.

    Attributes:
        module: The flavour that built it.
        version: Its full version.
        model: What it computes.
        profiles: The minimal, usual and maximal shape of inputs by name, for each profile.
        flags: Names of the builder flags that were set.
        verbosity: How much the inspector tells.
        targets: Compute capabilities that it was built for ahead of time.
        calibration: The calibration cache that was used, or an empty text.
        formats: The format of inputs and outputs that are not linear.
    """

    module: str
    version: str
    model: bytes
    profiles: list[dict[str, Any]]
    flags: list[str]
    verbosity: str
    targets: list[str] = field(default_factory=list)
    calibration: str = ""
    formats: dict[str, str] = field(default_factory=dict)

    def proto(self) -> onnx.ModelProto:
        """Return the model."""
        return onnx.load_from_string(self.model)


def to_bytes(plan: Plan) -> bytes:
    """Return the engine file."""
    said = asdict(plan)
    model = said.pop("model")
    return MAGIC + json.dumps(said).encode() + b"\n" + model


def from_bytes(data: bytes) -> Plan | None:
    """Read an engine file; None where it is none."""
    head, _, model = data.partition(b"\n")
    if not head.startswith(MAGIC):
        return None
    return Plan(model=model, **json.loads(head[len(MAGIC) :]))
